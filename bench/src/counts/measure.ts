/**
 * Counting mode: what one operation asks of the cryptographic provider, and how many bytes it encodes and hands to
 * storage. Exact and the same on every machine, so it is held to a reviewed fixture; times are not.
 */
import { Buffer } from "node:buffer";
import {
  bytesWritten,
  counting,
  decodeMlsMessage,
  type Group,
  type GroupWrites,
  joinGroup,
  type KeyPackageBundle,
  nativeCrypto,
  trimWelcomes,
} from "@murmuration/mls-groups";
import { adoptEpoch } from "@murmuration/mls-groups/bench";
import { type KeyPackageFixture, makeGroup, makeKeyPackage, privateKeysOf } from "../mls/fixture.ts";
import { SUITE } from "../mls/key-material.ts";
import type { CountRow } from "../report/schema.ts";

/** In the fixture; small enough for a test to count them all. */
export const COUNTED_MEMBERS = [8, 64, 256, 1_000] as const;

/** The fixture's seed: counts do not depend on it, and the shape of a warm tree does. */
const SEED = "counts";
const NOW = { nowMs: 0 };
const PLAINTEXT = new Uint8Array(32);
const ADDED = 10;
/** MLSMessage header of a KeyPackage: version 1, wire format 5. */
const KEY_PACKAGE_HEADER = Uint8Array.of(0, 1, 0, 5);

const { counts: live, provider: crypto, reset } = counting(nativeCrypto(SUITE));

/** What an operation leaves to be counted beside the calls. */
interface Made {
  /** Messages and other bytes for others. */
  readonly encoded: readonly (Uint8Array | undefined)[];
  readonly writes: readonly GroupWrites[];
}

function count<T>(rows: CountRow[], operation: string, members: number, run: () => readonly [T, Made]): T {
  reset();
  const [result, { encoded, writes }] = run();
  const { random: _, ...calls } = live;
  const used = Object.entries(calls).filter(([, value]) => value > 0);
  const counts = {
    ...Object.fromEntries(used),
    bytesEncoded: encoded.reduce((sum, bytes) => sum + (bytes?.length ?? 0), 0),
    bytesWritten: writes.reduce((sum, write) => sum + bytesWritten(write), 0),
  };
  rows.push({ operation, members, counts });
  return result;
}

const decodeKeyPackage = ({ keyPackage }: KeyPackageFixture) => {
  const message = decodeMlsMessage(Buffer.concat([KEY_PACKAGE_HEADER, keyPackage]));
  if (message.wireFormat !== "mls_key_package") throw new Error("not a KeyPackage");
  return message.keyPackage;
};

const bundleOf = (fixture: KeyPackageFixture): KeyPackageBundle => ({
  keyPackage: decodeKeyPackage(fixture),
  initPrivateKey: fixture.initKeys.privateKey.slice(),
  leafPrivateKey: fixture.encryptionKeys.privateKey.slice(),
  signaturePrivateKey: fixture.signatureKeys.privateKey.slice(),
});

type Commit = ReturnType<Group["createCommit"]>;

/** A commit of `group`, merged. */
function commit(
  rows: CountRow[],
  operation: string,
  members: number,
  group: Group,
  options: Parameters<Group["createCommit"]>[0] = {},
): Commit {
  return count(rows, `${operation}-create`, members, () => {
    const made = group.createCommit(options);
    const merged = group.mergePending(NOW);
    const encoded = [made.message, made.groupInfo, made.welcome];
    return [made, { encoded, writes: [made.writes, merged] }];
  });
}

function process(
  rows: CountRow[],
  operation: string,
  members: number,
  group: Group,
  message: Uint8Array,
): void {
  count(rows, `${operation}-process`, members, () => {
    const received = group.receive(message);
    if (received.kind !== "commit") throw new Error("not a commit");
    return [undefined, { encoded: [], writes: [group.merge(received.commit, NOW)] }];
  });
}

function countGroup(rows: CountRow[], members: number, temperature: "warm" | "cold"): void {
  const fixture = makeGroup(SEED, members, temperature);
  const adopt = adoptEpoch(crypto, fixture);
  const member = (leaf: number) =>
    adopt({
      leaf,
      signaturePrivateKey: fixture.leaves[leaf]!.signatureKeys.privateKey,
      privateKeys: privateKeysOf(fixture, leaf),
    }).group;
  const [sender, receiver] = [member(0), member(members - 1)];
  const name = (operation: string) => `${operation}-${temperature}`;
  if (temperature === "warm") countMessages(rows, members, sender, receiver);

  const updated = commit(rows, name("self-update"), members, sender);
  process(rows, name("self-update"), members, receiver, updated.message);

  const newcomers = Array.from({ length: ADDED + 1 }, (_, i) => makeKeyPackage(SEED, members + i));
  const [first, ...others] = newcomers;
  const proposals = (added: readonly KeyPackageFixture[]) =>
    added.map((one) => ({ kind: "add", keyPackage: decodeKeyPackage(one) }) as const);
  const one = proposals([first!]);
  const added = commit(rows, name("add-1"), members, sender, { proposals: one });
  process(rows, name("add-1"), members, receiver, added.message);
  const [welcome] = trimWelcomes(added.welcome!);
  const ratchetTree = sender.ratchetTree();
  count(rows, name("join"), members, () => {
    const { writes } = joinGroup(crypto, { welcome: welcome!, ratchetTree, keyPackage: bundleOf(first!) });
    return [undefined, { encoded: [welcome, ratchetTree], writes: [writes] }];
  });
  const removal = { proposals: [{ kind: "remove", removed: Math.floor(members / 2) } as const] };
  const removed = commit(rows, name("remove-1"), members, sender, removal);
  process(rows, name("remove-1"), members, receiver, removed.message);
  const many = commit(rows, name(`add-${ADDED}`), members, sender, { proposals: proposals(others) });
  process(rows, name(`add-${ADDED}`), members, receiver, many.message);
}

function countMessages(rows: CountRow[], members: number, sender: Group, receiver: Group): void {
  for (const operation of ["message-first", "message"]) {
    const message = count(rows, `${operation}-create`, members, () => {
      const made = sender.createApplicationMessage(PLAINTEXT);
      return [made.message, { encoded: [made.message], writes: [made.writes] }];
    });
    count(rows, `${operation}-process`, members, () => {
      const received = receiver.receive(message);
      if (received.kind !== "application") throw new Error("not an application message");
      return [undefined, { encoded: [], writes: [received.writes] }];
    });
  }
}

/** Counts every operation at each of these sizes. O(members) for each. */
export function countOperations(sizes: readonly number[]): CountRow[] {
  const rows: CountRow[] = [];
  for (const members of sizes) {
    countGroup(rows, members, "warm");
    countGroup(rows, members, "cold");
  }
  return rows;
}
