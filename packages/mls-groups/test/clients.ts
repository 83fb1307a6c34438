import { utf8 } from "@murmuration/base";
import {
  type CryptoProvider,
  Group,
  type GroupConfig,
  type GroupStore,
  generateKeyPackage,
  joinGroup,
  type KeyPackageBundle,
  type KeyPackageOptions,
  type MemberIdentity,
  MemoryGroupStore,
  type Received,
  type WriteSet,
} from "../src/index.ts";

/** Seconds since 1970 in which every KeyPackage of a test is valid. */
export const lifetime = { notBefore: 0n, notAfter: 0xffff_ffff_ffffn };

/** A person in a test: an identity, a store, and the group as that person sees it. */
export class Client {
  readonly name: string;
  readonly crypto: CryptoProvider;
  readonly identity: MemberIdentity;
  readonly config: Partial<GroupConfig>;
  store: GroupStore = new MemoryGroupStore();
  #group: Group | undefined;
  nowMs = 0;

  constructor(name: string, crypto: CryptoProvider, config: Partial<GroupConfig> = {}) {
    this.name = name;
    this.crypto = crypto;
    this.config = config;
    this.identity = {
      credential: { kind: "basic", identity: utf8(name) },
      signatureKeys: crypto.generateSignatureKeyPair(),
    };
  }

  get group(): Group {
    if (this.#group === undefined) throw new Error(`${this.name} is in no group`);
    return this.#group;
  }
  set group(group: Group) {
    this.#group = group;
  }

  keyPackage(options: KeyPackageOptions = {}): KeyPackageBundle {
    return generateKeyPackage(this.crypto, this.identity, lifetime, options);
  }

  /** Stores what an operation changed, as a client does before anything else happens. */
  save(writes: WriteSet): void {
    this.store.apply(writes);
  }

  create(groupId: string, extensions: Parameters<typeof Group.create>[1]["extensions"] = []): void {
    const request = { groupId: utf8(groupId), identity: this.identity, lifetime, extensions };
    const { group, writes } = Group.create(this.crypto, request, this.config);
    this.save(writes);
    this.group = group;
  }

  join(welcome: Uint8Array, keyPackage: KeyPackageBundle, ratchetTree?: Uint8Array): void {
    const { group, writes } = joinGroup(this.crypto, { welcome, keyPackage, ratchetTree }, this.config);
    this.save(writes);
    this.group = group;
  }

  /** Throws the memory away and loads the group from the store, as after a crash. */
  reload(): void {
    this.group = Group.load(this.crypto, this.store, this.config);
  }

  /** Commits, has the commit accepted at once, and returns what goes to the others. */
  commit(options: Parameters<Group["createCommit"]>[0] = {}): ReturnType<Group["createCommit"]> {
    const bundle = this.group.createCommit(options);
    this.save(bundle.writes);
    this.save(this.group.mergePending({ nowMs: this.nowMs }));
    return bundle;
  }

  /** Receives a message; a commit is merged at once. */
  receive(message: Uint8Array): Received {
    const received = this.group.receive(message);
    if (received.kind === "commit") this.save(this.group.merge(received.commit, { nowMs: this.nowMs }));
    else if (received.kind !== "own-commit") this.save(received.writes);
    return received;
  }

  say(text: string): Uint8Array {
    const { message, writes } = this.group.createApplicationMessage(utf8(text));
    this.save(writes);
    return message;
  }
}

/** The text of a received application message. */
export function textOf(received: Received): string {
  if (received.kind !== "application") throw new Error(`received a ${received.kind}`);
  return Buffer.from(received.applicationData).toString("utf8");
}

/** Adds clients to the first one's group in one commit and lets them join. */
export function addAll(committer: Client, others: readonly Client[], members: readonly Client[] = []): void {
  const bundles = others.map((client) => client.keyPackage());
  const proposals = bundles.map(({ keyPackage }) => ({ kind: "add", keyPackage }) as const);
  const { message, welcome } = committer.commit({ proposals, groupInfo: { ratchetTree: true } });
  for (const member of members) if (member !== committer) member.receive(message);
  for (const [i, client] of others.entries()) client.join(welcome!, bundles[i]!);
}
