import type { GroupFixture, KeyPackageFixture } from "./fixture.ts";
import type { Counts } from "./rows.ts";

type Eventually<T> = T | Promise<T>;

interface Committed<M> {
  readonly member: M;
  readonly commit: Uint8Array;
}

export interface Added<M> extends Committed<M> {
  /** MLSMessage with a Welcome for all who were added. */
  readonly welcome: Uint8Array;
}

/**
 * One MLS implementation behind the operations that are measured. `M` is a member's state: what a method
 * returns replaces what it was given, whether the implementation copies or changes in place. Commits and
 * proposals travel as PublicMessage, the tree is never cached between calls, and every method ends with state
 * that the next call can start from.
 */
export interface MlsImplementation<M> {
  /** Generates one KeyPackage with its keys for an identity whose signature key exists; its encoding. */
  generateKeyPackage(identity: KeyPackageFixture): Eventually<Uint8Array>;
  createGroup(creator: KeyPackageFixture, groupId: Uint8Array): Eventually<M>;
  /** One commit that adds all of these encoded KeyPackages, by value and without a path, with its Welcome. */
  add(member: M, keyPackages: readonly Uint8Array[]): Eventually<Added<M>>;
  /**
   * The ratchet_tree of the epoch that the member is in, as the delivery service hands it out; undefined where
   * Welcomes of this implementation carry it. Not timed.
   */
  tree(member: M): Eventually<Uint8Array | undefined>;
  /** The Welcome with the entry of one joiner alone, as the delivery service hands it out. Not timed. */
  trimWelcome(welcome: Uint8Array, joiner: KeyPackageFixture): Eventually<Uint8Array>;
  /** Joins and has fully validated state; the joiner's private keys are those of the fixture. */
  join(joiner: KeyPackageFixture, welcome: Uint8Array, tree: Uint8Array | undefined): Eventually<M>;
  /** The same with signatures verified off the main thread; missing where an implementation cannot. */
  joinPooled?(joiner: KeyPackageFixture, welcome: Uint8Array, tree: Uint8Array | undefined): Promise<M>;
  /** The state of the member at this leaf of a fixture, without protocol. Not timed. */
  adopt(group: GroupFixture, leaf: number): Eventually<M>;
  /** An empty commit with a path, its signed GroupInfo, and the committer's state after it. */
  commit(member: M): Eventually<Committed<M>>;
  /** From the bytes of a commit to merged state. */
  process(member: M, commit: Uint8Array): Eventually<M>;
  encrypt(member: M, plaintext: Uint8Array): Eventually<{ readonly member: M; readonly message: Uint8Array }>;
  decrypt(member: M, message: Uint8Array): Eventually<M>;
  /**
   * Hands to storage what the operation since the last call changed, and returns how many bytes that was. An
   * implementation that can only write all of its state writes all of it.
   */
  store(member: M): Eventually<number>;
  /** Everything that storage holds of this member, for `load`. Not timed. */
  stored(member: M): Eventually<Uint8Array | StoredRows>;
  load(stored: Uint8Array | StoredRows): Eventually<M>;
  /** Exact operation counts since the last call. */
  takeCounts(): Counts;
}

/** Storage of an implementation that keeps rows; opaque to the benchmark but for its size. */
export interface StoredRows {
  readonly size: number;
}
