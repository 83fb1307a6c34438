import { equalBytes, formatId, parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { introduce, until, World } from "../../src/index.ts";
import { insidesOf } from "../support/bent-creator.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { groupOf, inConversation } from "../support/pairwise-groups.ts";

test("a new key that the service lets nobody hear of holds up its own group alone, and is in force once it was heard", async () => {
  await using world = await World.start();
  const lies = new LyingRecords();
  const alice = await world.join("Alice", {
    wrapTransport: lies.wrapTransport,
    settings: { keyPatienceMs: 1_000 },
  });
  const [bob, carol] = [await world.join("Bob"), await world.join("Carol")];
  await introduce(alice, bob, carol);
  const made = [await groupOf(alice, bob, carol), await groupOf(alice, bob, carol)];
  const [first, second] = made.map(({ id }) => id).sort(byBytes) as [string, string];
  const stateOf = (id: string) => insidesOf(alice).context.conversations.group(parseGroupId(id))!;
  const before = new Map([first, second].map((id) => [id, stateOf(id)]));
  const hasNewKey = (id: string) => !equalBytes(stateOf(id).groupKey, before.get(id)!.groupKey);
  lies.lieAboutSubmits(({ fence }) =>
    fence !== undefined && formatId(fence.groupId) === first ? "refuse" : "pass",
  );

  for (const id of [first, second]) await inConversation(bob, id).leave();
  await until(() => hasNewKey(second), 20_000, "a new key where it can be announced");
  expect(hasNewKey(first)).toBe(false);
  // Whoever wants something else of that group is told, and not left waiting.
  await expect(inConversation(alice, first).remove(carol.id)).rejects.toMatchObject({
    code: "group/key-not-announced",
  });

  lies.lieAboutSubmits(undefined);
  await until(() => hasNewKey(first), 40_000, "a new key once it was announced");
  await inConversation(alice, first).remove(carol.id);
  expect(inConversation(alice, first).memberCount).toBe(1);
}, 120_000);

const byBytes = (a: string, b: string): number =>
  Buffer.compare(Buffer.from(parseGroupId(a)), Buffer.from(parseGroupId(b)));
