import { describe, expect, it } from "vitest";
import { addMembers, expectKind, Member, startCommunity } from "../support/community.ts";
import { query } from "../support/database.ts";
import { startTestService, type TestService } from "../support/service.ts";

const SIZES = [10, 300, 1_000] as const;
/** As many as fit into one commit with room to spare. */
const BATCH = 200;
/** Members with an account, hence a mailbox: the whole of the smallest group. */
const REGISTERED = 10;
/** Members who are connected when it is said. */
const CONNECTED = 5;
const TEXT = "to all of you";
const QUIET_MS = 250;

/** Every row in the file, by its table, but for what the hourly clean-up notes of itself: it may run in between. */
type Rows = ReadonlyMap<string, ReadonlySet<string>>;

function rowsOf({ databasePath }: TestService): Rows {
  const tables = query(
    databasePath,
    "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'retention_runs' ORDER BY name",
  );
  return new Map(
    tables.map(({ name }) => [
      name as string,
      new Set(query(databasePath, `SELECT * FROM ${name as string}`).map((row) => JSON.stringify(row))),
    ]),
  );
}

/** How many rows of each table are in `these` and not in `those`; tables without any are left out. */
function without(these: Rows, those: Rows): Readonly<Record<string, number>> {
  const counts = [...these].map(
    ([table, rows]) => [table, [...rows].filter((row) => !those.get(table)!.has(row)).length] as const,
  );
  return Object.fromEntries(counts.filter(([, count]) => count > 0));
}

/** The rows once nothing more is written: Welcomes are in their mailboxes, snapshots of the tree are made. */
async function rowsAtRest(service: TestService): Promise<Rows> {
  for (let rows = rowsOf(service); ; ) {
    await new Promise((resolve) => setTimeout(resolve, QUIET_MS));
    const later = rowsOf(service);
    const isQuiet = Object.keys({ ...without(later, rows), ...without(rows, later) }).length === 0;
    if (isQuiet && later.get("mls_outbox")!.size === 0) return later;
    rows = later;
  }
}

/** What one message writes into the file of a service, in a group of this size. */
async function costIn(service: TestService, size: number) {
  const [owner, ...members] = await Promise.all(
    Array.from({ length: REGISTERED }, () => Member.register(service)),
  );
  members.push(...(await Member.strangers(service, size - REGISTERED)));
  await startCommunity(service, [owner!]);
  for (let at = 0; at < members.length; at += BATCH)
    await addMembers(owner!, members.slice(at, at + BATCH), false);
  expect(owner!.group.memberCount).toBe(size);
  const commits = Math.ceil(members.length / BATCH);
  const connected = members.slice(0, CONNECTED);
  for (const member of connected) await member.open(service, commits);
  const before = await rowsAtRest(service);
  // The Welcomes: there are mailboxes that more could have come into.
  expect(before.get("envelopes")!.size).toBe(REGISTERED - 1);

  const said = owner!.say(TEXT);
  const { sequence } = expectKind(await owner!.socket.request(said), "groupSubmitAccepted");
  for (const { socket } of connected) {
    const isThere = () =>
      socket.pushed.some(
        (body) => body.kind === "groupEntries" && body.entries.some((one) => one.sequence === sequence),
      );
    await socket.until(isThere, 5_000, "no message");
  }
  const after = await rowsAtRest(service);
  const [entry] = query(
    service.databasePath,
    `SELECT message FROM mls_entries WHERE sequence = ${sequence} AND kind = 'application'`,
  );
  expect(entry!["message"]).toEqual(said.message);
  return { written: without(after, before), gone: without(before, after), bytes: said.message.length };
}

describe("an application message", () => {
  it("costs one stored payload and not a row for any member, in a group of 10, of 300 and of 1,000", async () => {
    const costs: Awaited<ReturnType<typeof costIn>>[] = [];
    for (const size of SIZES) {
      const service = await startTestService();
      costs.push(await costIn(service, size));
      await service.stop();
    }
    console.log(`bytes of the payload: ${costs.map(({ bytes }) => bytes).join(", ")}`);
    for (const { written, gone } of costs) {
      // One row more. Two are other ones: the group's, which says how long its log is, and the count of what was written.
      expect(written).toEqual({ mls_entries: 1, mls_groups: 1, runs: 1 });
      expect(gone).toEqual({ mls_groups: 1, runs: 1 });
    }
    expect(new Set(costs.map(({ bytes }) => bytes)).size).toBe(1);
  }, 240_000);
});
