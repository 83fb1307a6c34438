import { type AccountId, accountId, type GroupId, groupId } from "@murmuration/base";
import type { Group } from "@murmuration/mls-groups";
import { describe, expect, test } from "vitest";
import { openSqlcipher } from "../../src/index.ts";
import { EpochReports } from "../../src/shell/communities/epoch-reports.ts";
import type { Context } from "../../src/shell/context.ts";
import { ConversationStore } from "../../src/store/conversations.ts";
import { EventStore } from "../../src/store/events.ts";
import { KeptStorage } from "../../src/store/kept-storage.ts";
import { MlsStore } from "../../src/store/mls.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const id: GroupId = groupId(new Uint8Array(16).fill(9));
const [own, xenia, yann, zoe] = [0, 1, 2, 3].map((n) => accountId(new Uint8Array(16).fill(n))) as [
  AccountId,
  AccountId,
  AccountId,
  AccountId,
];
const entering = (epoch: bigint, memberCount: number) =>
  ({ epoch, memberCount, epochAuthenticator: () => new Uint8Array(32) }) as unknown as Group;
const hashOf = (text: string) => new Uint8Array(32).fill(text.length);

/** A community of ours with these others, of which this device knows the epochs 1 to 3. */
function community(...others: readonly AccountId[]) {
  const storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(32) });
  prepareSchema(storage);
  const kept = new KeptStorage(storage);
  const mls = new MlsStore(kept);
  const conversations = new ConversationStore(kept);
  const events = new EventStore(kept);
  mls.putGroup(id, { state: "active", cursor: 0, slot: 0, updatedAtMs: 0 });
  for (const account of [own, ...others])
    conversations.putMember(id, { account, role: "member", invited: false, identityKey: new Uint8Array(32) });
  for (const epoch of [1, 2, 3]) mls.putEpoch(id, epoch, hashOf("ours"));
  mls.setEntered(id, 1);
  const isOwn = (account: AccountId) => Buffer.from(account).equals(own);
  const time = { nowMs: 1 };
  const chance = { draw: 0 };
  const said: number[] = [];
  const context = {
    mls,
    conversations,
    events,
    isOwn,
    now: () => time.nowMs,
    environment: {
      random: (length: number) => {
        const bytes = new Uint8Array(length);
        new DataView(bytes.buffer).setUint32(0, chance.draw);
        return bytes;
      },
    },
    transaction: (work: () => unknown) => work(),
    contacts: { withoutAccessKey: () => [] },
    newMessageId: () => new Uint8Array(16),
    outbox: { append: () => said.push(time.nowMs) },
  } as unknown as Context;
  const reports = new EpochReports(context);
  return {
    mls,
    conversations,
    reports,
    time,
    chance,
    /** When each report was said. */
    said,
    /** The newest epoch's commit can be taken back yet. */
    commit: (epoch: number) => {
      const writes = { puts: new Map([["row", new Uint8Array(1)]]), deletes: [], deletePrefixes: [] };
      mls.applyCommit(id, 0, writes, epoch, time.nowMs);
      mls.putEpoch(id, epoch, hashOf("ours"));
    },
    evidence: () => events.after(0, 10).map(({ evidence }) => evidence?.fork),
    says: (account: AccountId, epoch: number, hash = hashOf("another")) =>
      reports.receive(account, { groupId: id, epoch, hash }),
    isForked: () => mls.group(id)!.forked,
    told: () => storage.all("SELECT detail FROM event ORDER BY id").map((row) => row["detail"]),
  };
}

describe("an account that knows an epoch otherwise", () => {
  test("stops nothing by itself, however often it says so; a person hears of it once", () => {
    const { says, isForked, told } = community(xenia, yann);
    for (const epoch of [1, 2, 3, 3]) says(xenia, epoch);
    expect(isForked()).toBe(false);
    expect(told()).toEqual(["group/disputed"]);
  });

  test("and another one besides stop what is sent", () => {
    const { says, isForked, told } = community(xenia, yann, zoe);
    says(xenia, 1);
    says(zoe, 3);
    expect(isForked()).toBe(true);
    expect(told()).toEqual(["group/disputed", "group/forked"]);
  });

  test("is enough where nobody else is there to say so", () => {
    const { says, isForked, told } = community(xenia);
    says(xenia, 2);
    expect(isForked()).toBe(true);
    expect(told()).toEqual(["group/forked"]);
  });

  test("counts no more once it is no member", () => {
    const { says, isForked, conversations } = community(xenia, yann, zoe);
    says(xenia, 1);
    conversations.removeMember(id, xenia, 0);
    says(yann, 1);
    expect(isForked()).toBe(false);
  });

  test("counts no more, and the epochs of before neither, once the group is entered anew", () => {
    const { mls, says, isForked, reports, told } = community(xenia, yann, zoe);
    says(xenia, 3);
    reports.entered(id, entering(7n, 8));
    says(yann, 3);
    says(zoe, 7);
    expect(isForked()).toBe(false);
    expect(told()).toEqual(["group/disputed", "group/disputed"]);
    expect(mls.epochHash(id, 3)).toBeUndefined();
  });

  test("counts no more once the epoch that it spoke of is taken back", () => {
    const { says, isForked, reports } = community(xenia, yann, zoe);
    says(xenia, 3);
    reports.takeBack(id, 3);
    says(yann, 2);
    expect(isForked()).toBe(false);
  });
});

describe("an epoch whose commit may be taken back", () => {
  test("is not compared: the log may be about to say that another commit counts", () => {
    const { says, told, commit } = community(xenia);
    commit(4);
    says(xenia, 4);
    expect(told()).toEqual([]);
    commit(5);
    says(xenia, 4);
    expect(told()).toEqual(["group/forked"]);
  });

  test("is told to nobody, but the one before", () => {
    const { mls, reports, commit } = community(xenia);
    const epochTold = () => reports.toTell(xenia).map(({ epoch }) => epoch);
    expect(epochTold()).toEqual([3]);
    commit(4);
    expect(epochTold()).toEqual([3]);
    mls.dropUndo(id);
    expect(epochTold()).toEqual([4]);
  });

  test("is told to nobody while this device came by it just now", () => {
    const { reports, time } = community(xenia);
    reports.entered(id, entering(7n, 8));
    expect(reports.toTell(xenia)).toEqual([]);
    time.nowMs = 700_000;
    expect(reports.toTell(xenia).map(({ epoch }) => epoch)).toEqual([7]);
  });
});

test("whoever is a member, and of another account than ours, is told of the epoch beside what is said to it", () => {
  const { reports, mls } = community(xenia);
  expect(reports.toTell(xenia)).toEqual([{ groupId: id, epoch: 3, hash: hashOf("ours") }]);
  expect(reports.toTell(yann)).toEqual([]);
  expect(reports.toTell(own)).toEqual([]);
  mls.setState(id, "stuck");
  expect(reports.toTell(xenia)).toEqual([]);
});

test("of many communities that both are in, one envelope tells of four", () => {
  const { reports, mls, conversations } = community(xenia);
  for (let n = 0; n < 9; n++) {
    const other = groupId(new Uint8Array(16).fill(100 + n));
    mls.putGroup(other, { state: "active", cursor: 0, slot: 0, updatedAtMs: 0 });
    conversations.putMember(other, {
      account: xenia,
      role: "member",
      invited: false,
      identityKey: new Uint8Array(32),
    });
    mls.putEpoch(other, 0, hashOf("ours"));
  }
  const told = reports.toTell(xenia).map((report) => Buffer.from(report.groupId).toString("hex"));
  expect(new Set(told).size).toBe(4);
});

test("members who came together speak each at a moment of its own, and not all in the epochs and hours after", () => {
  const moments = (memberCount: number) =>
    [0, 1, 2, 3, 4, 5, 6, 7].map((n) => {
      const { chance, mls, reports, said, time } = community(xenia);
      chance.draw = n * 77_777;
      reports.entered(id, entering(7n, memberCount));
      mls.putEpoch(id, 8, hashOf("ours"));
      while (said.length === 0 && time.nowMs < 700_000) {
        time.nowMs += 1_000;
        reports.sayIfDue(id);
      }
      // From now on epochs go by, and no time.
      let epochs = 8;
      while (said.length === 1 && epochs < 100) {
        mls.putEpoch(id, ++epochs, hashOf("ours"));
        reports.sayIfDue(id);
      }
      return { firstMs: said[0]!, epochs: epochs - 8 };
    });
  const many = moments(1_000);
  expect(new Set(many.map(({ firstMs }) => firstMs)).size).toBeGreaterThan(6);
  expect(Math.max(...many.map(({ firstMs }) => firstMs))).toBeLessThan(602_000);
  expect(new Set(many.map(({ epochs }) => epochs)).size).toBeGreaterThan(3);
  for (const { epochs } of many) {
    expect(epochs).toBeGreaterThan(25);
    expect(epochs).toBeLessThanOrEqual(50);
  }
  // In a small group nobody waits for long.
  expect(Math.max(...moments(3).map(({ firstMs }) => firstMs))).toBeLessThan(8_000);
});

test("what contradicts what is kept beside the event", () => {
  const { says, evidence } = community(xenia, yann);
  says(xenia, 2);
  expect(evidence()).toEqual([{ epoch: 2, ours: hashOf("ours"), theirs: hashOf("another") }]);
});

test("reports that agree, of unknown epochs, or of whoever is no member say nothing", () => {
  const { says, isForked, told } = community(xenia, yann);
  says(xenia, 1, hashOf("ours"));
  says(yann, 4);
  says(zoe, 1);
  expect(isForked()).toBe(false);
  expect(told()).toEqual([]);
});
