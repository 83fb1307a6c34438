import { randomBytes } from "node:crypto";
import {
  type AccountId,
  accountId,
  type Bytes,
  deviceId,
  formatId,
  groupId,
  RejectionError,
} from "@murmuration/base";
import { openPairwiseEngine, type PairwiseEngine, type WriteSet } from "@murmuration/pairwise";
import { beforeAll, describe, expect, test } from "vitest";
import { createChange, type GroupAction, type NewMember, verifyChange } from "../../src/core/group-change.ts";
import { deriveAccessPublicKey, openRecord, sealRecord } from "../../src/core/group-keys.ts";
import {
  applyChange,
  checkContinues,
  emptyGroup,
  encodeRecord,
  type GroupState,
  replayRecord,
  splitRecord,
} from "../../src/core/group-record.ts";

const random = (length: number): Bytes => new Uint8Array(randomBytes(length));
const group = groupId(random(16));

class Party {
  readonly account: AccountId;
  readonly engine: PairwiseEngine;
  readonly profileKey = random(32);

  constructor(account = accountId(random(16))) {
    this.account = account;
    const rows = new Map<string, Bytes>();
    const applyWriteSet = ({ changes }: WriteSet) => {
      for (const { table, key, value } of changes) {
        if (value === undefined) rows.delete(`${table}/${key}`);
        else rows.set(`${table}/${key}`, value);
      }
    };
    this.engine = openPairwiseEngine({
      store: {
        read: (table, key) => rows.get(`${table}/${key}`),
        readEach: (table, keys) => keys.map((key) => rows.get(`${table}/${key}`)),
        keys: () => [],
        transactionOpen: () => false,
        applyWriteSet,
      },
      trustRoots: [TRUST_ROOT],
      now: () => 0,
      random,
    });
    this.apply = applyWriteSet;
  }

  readonly apply: (writeSet: WriteSet) => void;

  async begin(): Promise<this> {
    await this.engine.generateAccount(this.account, ({ writeSet }) => this.apply(writeSet));
    return this;
  }

  /** Another device of this account; changes of the first one carry the longer list from here on. */
  async pair(): Promise<Party> {
    const other = new Party(this.account);
    const { accountIdentityKey } = this.engine.local()!;
    const request = await other.engine.generateLinkRequest(
      { accountId: this.account, accountIdentityKey },
      ({ writeSet, output }) => {
        other.apply(writeSet);
        return output;
      },
    );
    const { deviceList } = await this.engine.addDevice(request, ({ writeSet, output }) => {
      this.apply(writeSet);
      return output;
    });
    await other.engine.adoptLink(deviceList, ({ writeSet }) => other.apply(writeSet));
    return other;
  }

  get member(): NewMember {
    const identityKey = this.engine.local()!.accountIdentityKey;
    return { account: this.account, identityKey, profileKey: this.profileKey, name: "" };
  }

  /** A signed change on top of a state; parts can be forged. */
  change(
    state: GroupState,
    action: GroupAction,
    forged: { revision?: number; previousHash?: Bytes } = {},
  ): Bytes {
    return createChange(
      {
        groupId: group,
        revision: forged.revision ?? state.revision + 1,
        previousHash: forged.previousHash ?? state.hash,
        author: { accountId: this.account, deviceId: deviceId(this.engine.local()!.address.deviceId) },
        authorDeviceList: this.engine.local()!.deviceList,
        atMs: 0,
        action,
      },
      (label, content) => this.engine.signWithDeviceKey(label, content),
    ).encoded;
  }
}

/** Any valid public key will do: nothing here checks certificates. */
const TRUST_ROOT = new Uint8Array(
  Buffer.from("05f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff00112233445566778899aabbccddee7f", "hex"),
);

let owner: Party;
let admin: Party;
let member: Party;
let invited: Party;
let stranger: Party;
let state: GroupState;
const chain: Bytes[] = [];

const play = (before: GroupState, encoded: Bytes) => applyChange(before, verifyChange(encoded));

beforeAll(async () => {
  [owner, admin, member, invited, stranger] = (await Promise.all(
    Array.from({ length: 5 }, () => new Party().begin()),
  )) as [Party, Party, Party, Party, Party];
  state = emptyGroup(group);
  const guest = { ...invited.member, profileKey: undefined };
  const first: GroupAction = {
    kind: "create",
    title: "Birds",
    expireAfterSeconds: 0,
    members: [owner.member, admin.member, member.member, guest],
  };
  for (const action of [first, { kind: "role", account: admin.account, role: "admin" } as const]) {
    const encoded = owner.change(state, action);
    chain.push(encoded);
    state = play(state, encoded);
  }
});

const refused = (who: Party, action: GroupAction, on = state): string => {
  try {
    play(on, who.change(on, action));
    return "accepted";
  } catch (error) {
    if (!(error instanceof RejectionError)) throw error;
    return error.code;
  }
};

test("roles: who may do what is the same table at every member", () => {
  const remove = (who: Party): GroupAction => ({ kind: "remove", account: who.account });
  const role = (who: Party, to: "owner" | "admin" | "member"): GroupAction => ({
    kind: "role",
    account: who.account,
    role: to,
  });
  const cases: [Party, GroupAction, string][] = [
    [member, { kind: "title", title: "x" }, "group/role-too-low"],
    [member, { kind: "add", members: [stranger.member] }, "group/role-too-low"],
    [member, remove(admin), "group/role-too-low"],
    [member, role(member, "owner"), "group/role-too-low"],
    [member, { kind: "rotate" }, "group/role-too-low"],
    [member, { kind: "expiry", seconds: 5 }, "group/role-too-low"],
    [member, { kind: "profile", profileKey: random(32), name: "M" }, "accepted"],
    [member, { kind: "leave" }, "accepted"],
    [member, { kind: "join", profileKey: random(32), name: "" }, "group/already-a-member"],
    [admin, { kind: "title", title: "x" }, "accepted"],
    [admin, { kind: "add", members: [stranger.member] }, "accepted"],
    [admin, { kind: "add", members: [member.member] }, "group/member-twice"],
    [admin, remove(member), "accepted"],
    [admin, remove(owner), "group/role-too-low"],
    [admin, role(admin, "owner"), "group/role-too-low"],
    [admin, remove(admin), "group/leave-instead"],
    [owner, remove(admin), "accepted"],
    [owner, remove(stranger), "group/no-such-member"],
    [owner, role(owner, "member"), "group/last-owner"],
    [owner, role(invited, "admin"), "group/no-such-member"],
    [
      owner,
      { kind: "create", title: "", expireAfterSeconds: 0, members: [owner.member] },
      "group/not-the-beginning",
    ],
    [invited, { kind: "join", profileKey: random(32), name: "I" }, "accepted"],
    [invited, { kind: "profile", profileKey: random(32), name: "" }, "group/not-joined"],
    [invited, { kind: "leave" }, "accepted"],
    [stranger, { kind: "leave" }, "group/author-not-a-member"],
    [stranger, { kind: "title", title: "x" }, "group/author-not-a-member"],
  ];
  for (const [who, action, expected] of cases) expect(refused(who, action), `${action.kind}`).toBe(expected);
});

describe("a step of a move to MLS", () => {
  type Step = "prepare" | "ready" | "abort" | "switch" | "done" | "recover";
  const step = (name: Step, generation = 1): GroupAction => {
    if (name !== "switch") return { kind: `migrate-${name}`, generation };
    const digest = new Uint8Array(32);
    return { kind: "migrate-switch", generation, epoch: 3, authenticator: digest, rosterHash: digest };
  };
  /** Where these steps lead, each by whoever takes it. */
  const after = (...taken: readonly (readonly [Party, GroupAction])[]): GroupState =>
    taken.reduce((before, [who, action]) => play(before, who.change(before, action)), state);

  test("is no plain member's, nor that of anybody who is not in, wherever the move is, but for the word that it is done", () => {
    const begun: [Party, GroupAction] = [admin, step("prepare")];
    const ready: [Party, GroupAction] = [admin, step("ready")];
    const switched: [Party, GroupAction] = [admin, step("switch")];
    const recovering: [Party, GroupAction] = [owner, step("recover", 2)];
    const places: readonly (readonly [GroupState, readonly GroupAction[]])[] = [
      [state, [step("prepare")]],
      [after(begun), [step("ready"), step("abort"), step("prepare", 2)]],
      [after(begun, ready), [step("switch"), step("abort"), step("prepare", 2)]],
      [after(begun, ready, switched), [step("recover", 2)]],
      [after(begun, ready, switched, [owner, step("done")]), [step("recover", 2)]],
      [after(begun, ready, switched, recovering), [step("switch", 2), step("recover", 3)]],
    ];
    for (const [place, actions] of places) {
      for (const action of actions) {
        const where = `${action.kind} from ${place.migration.state}`;
        expect(refused(member, action, place), where).toBe("group/role-too-low");
        expect(refused(invited, action, place), where).toBe("group/not-joined");
        expect(refused(stranger, action, place), where).toBe("group/author-not-a-member");
      }
    }
    // Members are not the same for those who have gone over and those who have still to follow: whoever says it, it parts
    // nobody, and it opens nothing.
    const place = after(begun, ready, switched);
    for (const who of [owner, member, invited, stranger]) {
      const said = play(place, who.change(place, step("done")));
      expect({ ...said, hash: place.hash, revision: place.revision }).toEqual({
        ...place,
        migration: { ...place.migration, state: "mls" },
      });
    }
    expect(refused(stranger, step("done"), after(begun, ready))).toBe("migration/not-possible");
    // Nor that of the creator, once it is a plain member.
    const demote: GroupAction = { kind: "role", account: admin.account, role: "member" };
    expect(refused(admin, step("ready"), after(begun, [owner, demote]))).toBe("group/role-too-low");
    expect(refused(admin, step("switch"), after(begun, ready, [owner, demote]))).toBe("group/role-too-low");
  });

  test("that the device takes which makes the group is no other's: no owner's, and no other device's of its account", async () => {
    const desk = await admin.pair();
    const begun = after([admin, step("prepare")]);
    const ready = after([admin, step("prepare")], [admin, step("ready")]);
    for (const other of [owner, desk]) {
      expect(refused(other, step("ready"), begun)).toBe("migration/not-the-creator");
      expect(refused(other, step("switch"), ready)).toBe("migration/not-the-creator");
      // What anybody with a role may do.
      expect(refused(other, step("abort"), ready)).toBe("accepted");
    }
    expect(refused(admin, step("ready"), begun)).toBe("accepted");
    expect(refused(admin, step("switch"), ready)).toBe("accepted");
    // Whoever begins anew is the creator from then on, and the one before is not any more.
    const anew = after(
      [admin, step("prepare")],
      [admin, step("ready")],
      [admin, step("switch")],
      [owner, step("recover", 2)],
    );
    expect(refused(admin, step("switch", 2), anew)).toBe("migration/not-the-creator");
    expect(refused(owner, step("switch", 2), anew)).toBe("accepted");
  });

  test("back from MLS lets an admin remove whom others know to have left: it changes nothing for these, and parts nobody", () => {
    const place = after(
      [admin, step("prepare")],
      [admin, step("ready")],
      [admin, step("switch")],
      [owner, step("recover", 2)],
    );
    const remove: GroupAction = { kind: "remove", account: member.account };
    const members = new Map(place.members);
    members.delete(formatId(member.account));
    const left = { ...place, members };
    const removal = admin.change(place, remove);
    const [there, gone] = [place, left].map((known) => play(known, removal));
    expect(gone!.members).toEqual(there!.members);
    expect({ ...gone, members: undefined }).toEqual({ ...there, members: undefined });
    expect(refused(invited, remove, left)).toBe("group/not-joined");
    expect(refused(stranger, remove, left)).toBe("group/author-not-a-member");
    expect(refused(member, { kind: "remove", account: stranger.account }, place)).toBe("group/role-too-low");
    expect(refused(admin, { kind: "title", title: "x" }, left)).toBe("group/migrated");
  });

  test("leads only where the table leads, and only to the generation that is next there", () => {
    const begun = after([admin, step("prepare")]);
    const switched = after([admin, step("prepare")], [admin, step("ready")], [admin, step("switch")]);
    for (const name of ["ready", "abort", "switch", "done", "recover"] as const)
      expect(refused(admin, step(name), state), name).toBe("migration/not-possible");
    for (const name of ["prepare", "ready", "abort", "switch"] as const)
      expect(refused(admin, step(name, 2), switched), name).toBe("migration/not-possible");
    expect(refused(admin, step("prepare", 2), state)).toBe("migration/wrong-generation");
    expect(refused(admin, step("ready", 2), begun)).toBe("migration/wrong-generation");
    expect(refused(admin, step("prepare", 1), begun)).toBe("migration/wrong-generation");
    expect(refused(owner, step("recover", 1), switched)).toBe("migration/wrong-generation");
  });
});

test("a change outside the chain is refused: gap, repetition, other past, other group, other author's key", async () => {
  const title: GroupAction = { kind: "title", title: "x" };
  const code = (encoded: Bytes, on = state) => {
    try {
      play(on, encoded);
      return "accepted";
    } catch (error) {
      return (error as RejectionError).code;
    }
  };
  expect(code(owner.change(state, title, { revision: state.revision + 2 }))).toBe("group/revision-gap");
  expect(code(owner.change(state, title, { revision: state.revision }))).toBe("group/revision-gap");
  expect(code(owner.change(state, title, { previousHash: random(32) }))).toBe("group/chain-broken");
  expect(code(owner.change(state, title), { ...state, groupId: groupId(random(16)) })).toBe(
    "group/foreign-change",
  );
  // Somebody who makes a new account identity for the same account id.
  const impostor = await new Party(owner.account).begin();
  expect(code(impostor.change(state, title))).toBe("group/author-key-mismatch");
});

test("every changed byte of a signed change is refused", () => {
  const encoded = owner.change(state, { kind: "title", title: "Starlings" });
  for (let at = 0; at < encoded.length; at += 3) {
    const forged = encoded.map((byte, index) => (index === at ? byte ^ 0x01 : byte));
    expect(() => play(state, forged), `byte ${at}`).toThrow(RejectionError);
  }
});

test("a record that is shorter, or has another past, than what is remembered is refused", () => {
  expect(replayRecord(group, 2, chain).title).toBe("Birds");
  expect(() => replayRecord(group, 3, chain)).toThrow("group/revision-mismatch");
  const hashes = chain.map((encoded) => verifyChange(encoded).hash);
  const known = { revision: 2, hash: hashes[1]! };
  expect(() => checkContinues(chain.slice(0, 1), hashes.slice(0, 1), known)).toThrow("group/rolled-back");
  const other = owner.change({ ...state, revision: 1, hash: hashes[0]! }, { kind: "title", title: "Other" });
  const forked = [chain[0]!, other];
  expect(() => checkContinues(forked, [hashes[0]!, verifyChange(other).hash], known)).toThrow("group/forked");
  expect(() => checkContinues(chain, hashes, known)).not.toThrow();
});

test("the last owner's leaving makes an heir: the first admin, else the first member", () => {
  const after = play(state, owner.change(state, { kind: "leave" }));
  expect(after.members.get(formatId(admin.account))?.role).toBe("owner");
  expect(after.rotateAfter).toBe(after.revision);
  const alone = play(after, admin.change(after, { kind: "leave" }));
  expect(alone.members.get(formatId(member.account))?.role).toBe("owner");
  const rotated = play(after, admin.change(after, { kind: "rotate" }));
  expect(rotated.rotateAfter).toBe(0);
});

test("a record opens with its own key, group and revision only", () => {
  const key = random(32);
  const sealed = sealRecord(group, key, 2, encodeRecord(chain), random(12));
  expect(splitRecord(openRecord(group, key, 2, sealed))).toEqual(chain);
  expect(() => openRecord(group, random(32), 2, sealed)).toThrow("group/record-not-readable");
  expect(() => openRecord(group, key, 1, sealed)).toThrow("group/record-not-readable");
  expect(() => openRecord(groupId(random(16)), key, 2, sealed)).toThrow("group/record-not-readable");
  expect(() => openRecord(group, key, 2, sealed.subarray(0, 20))).toThrow("group/record-not-readable");
  expect(deriveAccessPublicKey(group, key)).not.toEqual(deriveAccessPublicKey(group, random(32)));
});
