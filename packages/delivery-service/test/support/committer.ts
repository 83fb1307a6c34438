import { fromHex, groupId, utf8 } from "@murmuration/base";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import { commitFrom, messageTo, newDevice } from "./mls-groups.ts";
import { random } from "./random.ts";

/** What the process says of each commit; `acknowledged` comes after it is durable. */
export interface CommitterMessage {
  readonly kind: "begun" | "appended" | "voided";
  readonly sequence: number;
}

// A process of its own that commits without end, and is killed. A commit's bytes say how many Welcomes and removals
// belong to it; messages go on beside it, and some commits are voided.
const [directory, group] = process.argv.slice(2) as [string, string];
const store = openSqliteStores(directory).mlsGroups;
const id = groupId(fromHex(group));
const say = (message: CommitterMessage) => process.send!(message);

for (;;) {
  const row = (await store.load(id))!;
  const round = row.lastSequence;
  const [welcomes, removals, proposals] = [20 + ((round * 7) % 200), round % 4, round % 3];
  const append = commitFrom(id, row.epoch, {
    commit: utf8(`${welcomes} ${removals}`),
    proposals: Array.from({ length: proposals }, () => random(200)),
    removed: Array.from({ length: removals }, () => random(32)),
    welcomes: Array.from({ length: welcomes }, () => ({ recipient: newDevice(), welcome: random(900) })),
    banList: round % 3 === 0 ? random(64) : undefined,
  });
  say({ kind: "begun", sequence: row.lastSequence + 1 + proposals });
  const [outcome] = await Promise.all([
    store.appendCommit(append),
    store.appendMessage(messageTo(id, row.epoch + 1)),
  ]);
  if (outcome.kind !== "appended") throw new Error(`the only committer is told ${outcome.kind}`);
  say({ kind: "appended", sequence: outcome.sequence });
  if (round % 5 !== 4) continue;
  await store.voidCommit({
    groupId: id,
    sequence: outcome.sequence,
    proof: random(8),
    acceptedAtMs: append.acceptedAtMs,
  });
  say({ kind: "voided", sequence: outcome.sequence });
}
