/** This project's engine. Its groups change in place; what an operation changed goes to a store. */
import { type Bytes, concatBytes } from "@murmuration/base";
import {
  bytesWritten,
  counting,
  decodeMlsMessage,
  Group,
  type GroupWrites,
  generateKeyPackage,
  joinGroup,
  joinGroupInBatches,
  type KeyPackage,
  type KeyPackageBundle,
  keyPackageBytes,
  type MemberIdentity,
  MemoryGroupStore,
  nativeCrypto,
  trimWelcomes,
} from "@murmuration/mls-groups";
import { adoptMember } from "@murmuration/mls-groups/bench";
import { type KeyPackageFixture, type LeafFixture, privateKeysOf } from "./fixture.ts";
import type { MlsImplementation, StoredRows } from "./implementation.ts";
import { SUITE } from "./key-material.ts";
import type { Counts } from "./rows.ts";

const LIFETIME = { notBefore: 0n, notAfter: 0xffff_ffff_ffff_ffffn };
/** MLSMessage header of a KeyPackage: version 1, wire format 5. */
const KEY_PACKAGE_HEADER = Uint8Array.of(0, 1, 0, 5);
/** No epoch ends by time within a benchmark. */
const NOW = { nowMs: 0 };

/** A group and what it handed to storage. The first rows are kept, for `load`; later ones are only counted. */
interface Held {
  readonly group: Group;
  readonly firstRows: GroupWrites;
  written: number;
}

class Rows implements StoredRows {
  readonly store: MemoryGroupStore;
  readonly size: number;
  constructor(writes: GroupWrites) {
    this.store = new MemoryGroupStore();
    this.store.apply(writes);
    this.size = bytesWritten(writes);
  }
}

function decodeKeyPackage(bytes: Uint8Array): KeyPackage {
  const message = decodeMlsMessage(concatBytes(KEY_PACKAGE_HEADER, bytes));
  if (message.wireFormat !== "mls_key_package") throw new Error("not a KeyPackage");
  return message.keyPackage;
}

const identityOf = ({ identity, signatureKeys }: LeafFixture): MemberIdentity => ({
  credential: { kind: "basic", identity },
  signatureKeys,
});

/** Joining wipes what it spent, so each run gets copies. */
const bundleOf = (fixture: KeyPackageFixture): KeyPackageBundle => ({
  keyPackage: decodeKeyPackage(fixture.keyPackage),
  initPrivateKey: fixture.initKeys.privateKey.slice(),
  leafPrivateKey: fixture.encryptionKeys.privateKey.slice(),
  signaturePrivateKey: fixture.signatureKeys.privateKey.slice(),
});

const held = ({ group, writes }: { group: Group; writes: GroupWrites }): Held => ({
  group,
  firstRows: writes,
  written: bytesWritten(writes),
});

/** The storage port of the benchmark: takes the rows, and counts them. */
function hand(member: Held, writes: GroupWrites): Held {
  member.written += bytesWritten(writes);
  return member;
}

export function murmuration(): MlsImplementation<Held> {
  const { provider: crypto, counts, reset } = counting(nativeCrypto(SUITE));
  return {
    takeCounts(): Counts {
      const taken = Object.fromEntries(Object.entries(counts).filter(([, value]) => value > 0));
      reset();
      return taken;
    },
    generateKeyPackage(identity) {
      return keyPackageBytes(generateKeyPackage(crypto, identityOf(identity), LIFETIME).keyPackage) as Bytes;
    },
    createGroup(creator, groupId) {
      return held(Group.create(crypto, { groupId, identity: identityOf(creator), lifetime: LIFETIME }));
    },
    add(member, keyPackages) {
      const proposals = keyPackages.map(
        (bytes) => ({ kind: "add", keyPackage: decodeKeyPackage(bytes) }) as const,
      );
      const made = member.group.createCommit({ proposals, path: "required" });
      hand(member, made.writes);
      hand(member, member.group.mergePending(NOW));
      return { member, commit: made.message, welcome: made.welcome! };
    },
    tree: ({ group }) => group.ratchetTree(),
    trimWelcome(welcome, joiner) {
      const reference = Buffer.from(joiner.reference);
      return trimWelcomes(welcome).find((one) => Buffer.from(one).includes(reference))!;
    },
    join(joiner, welcome, ratchetTree) {
      return held(joinGroup(crypto, { welcome, ratchetTree, keyPackage: bundleOf(joiner) }));
    },
    async joinPooled(joiner, welcome, ratchetTree) {
      return held(await joinGroupInBatches(crypto, { welcome, ratchetTree, keyPackage: bundleOf(joiner) }));
    },
    adopt(group, leaf) {
      return held(
        adoptMember(crypto, {
          ...group,
          leaf,
          signaturePrivateKey: group.leaves[leaf]!.signatureKeys.privateKey,
          privateKeys: privateKeysOf(group, leaf),
        }),
      );
    },
    commit(member) {
      const made = member.group.createCommit();
      hand(member, made.writes);
      hand(member, member.group.mergePending(NOW));
      return { member, commit: made.message };
    },
    process(member, commit) {
      const received = member.group.receive(commit);
      if (received.kind !== "commit") throw new Error("not a commit of another member");
      return hand(member, member.group.merge(received.commit, NOW));
    },
    encrypt(member, plaintext) {
      const { message, writes } = member.group.createApplicationMessage(plaintext);
      return { member: hand(member, writes), message };
    },
    decrypt(member, message) {
      const received = member.group.receive(message);
      if (received.kind !== "application") throw new Error("not an application message");
      return hand(member, received.writes);
    },
    store(member) {
      const { written } = member;
      member.written = 0;
      return written;
    },
    stored: (member) => new Rows(member.firstRows),
    load: (stored) => {
      const { store } = stored as Rows;
      return {
        group: Group.load(crypto, store),
        firstRows: { puts: new Map(), deletes: [], deletePrefixes: [] },
        written: 0,
      };
    },
  };
}
