/** The service under test: its process, what is stored in it before it is measured, and how clients find it. */
import { type Bytes, type SubmitId, submitId } from "@murmuration/base";
import { adoptEpoch } from "@murmuration/mls-groups/bench";
import { decodeMessage, routePath, serviceInfo } from "@murmuration/wire";
import { type CommunityFile, communityCrypto, makeCommunity } from "../fanout/community.ts";
import { derived } from "../mls/key-material.ts";
import { WorkerLink } from "../worker-link.ts";
import type { GroupPlace, LeafKey } from "./group-reader.ts";
import { cpuSeconds, residentBytes } from "./process-figures.ts";
import type { AccountsTask, ServiceTask, Sockets, StoredGroup } from "./service-worker.ts";
import { emptyStore, type Store } from "./store.ts";

const INFO_BYTES = 64 * 1024;

/** How the service is run in a section. */
export interface ServiceOptions {
  readonly store: Store;
  readonly sockets: Sockets;
  /** Folder for a CPU profile of the service. */
  readonly profile: string | undefined;
}

export class ServiceUnderTest {
  readonly port: number;
  readonly trustRoot: Bytes;
  /** Its own; of the embedded store also where that is. */
  readonly directory: string;
  private readonly link: WorkerLink;
  private readonly drop: () => Promise<void>;
  private dropped: Promise<void> | undefined;

  private constructor(
    link: WorkerLink,
    drop: () => Promise<void>,
    directory: string,
    port: number,
    trustRoot: Bytes,
  ) {
    this.link = link;
    this.drop = drop;
    this.directory = directory;
    this.port = port;
    this.trustRoot = trustRoot;
  }

  /** On an empty store of its own. Rejects with the reason where the sockets that are asked for do not load. */
  static async start({ store, sockets, profile }: ServiceOptions): Promise<ServiceUnderTest> {
    const { directory, engines, drop } = emptyStore(store);
    const profiling = profile === undefined ? [] : ["--cpu-prof", `--cpu-prof-dir=${profile}`];
    const link = new WorkerLink(new URL("./service-worker.ts", import.meta.url), "the service", [
      "--expose-gc",
      ...profiling,
    ]);
    try {
      const { port } = await link.request<{ port: number }>("start", {
        directory,
        engines,
        sockets,
      } satisfies ServiceTask);
      const answer = await fetch(`http://127.0.0.1:${port}${routePath("info")}`);
      const info = decodeMessage(serviceInfo, new Uint8Array(await answer.arrayBuffer()), INFO_BYTES);
      return new ServiceUnderTest(link, drop, directory, port, info.certificateTrustRoot);
    } catch (error) {
      link.stop();
      await link.ended;
      await drop();
      throw error;
    }
  }

  /** Stores a group, and returns how its members find it. */
  async store(community: CommunityFile): Promise<GroupPlace> {
    const { groupId, epoch, groupInfo, treeHash, ratchetTree } = community;
    await this.link.request("group", {
      groupId,
      epoch,
      groupInfo,
      treeHash,
      ratchetTree,
    } satisfies StoredGroup);
    return { groupId, epoch, service: this.trustRoot };
  }

  accounts(task: AccountsTask): Promise<void> {
    return this.link.request("accounts", task);
  }

  cpuSeconds(): number {
    return cpuSeconds(this.link.pid);
  }

  /** What the service holds after a collection of garbage: in the kernel's view, and in the engine's. */
  async memory(): Promise<{ readonly residentBytes: number; readonly heapBytes: number }> {
    const heapBytes = await this.link.request<number>("collect");
    return { residentBytes: residentBytes(this.link.pid), heapBytes };
  }

  async end(): Promise<void> {
    await this.link.request("end").catch(() => {});
    await this.leaveNothing();
  }

  /** At once, for an interrupt. */
  async stop(): Promise<void> {
    this.link.stop();
    await this.leaveNothing();
  }

  private leaveNothing(): Promise<void> {
    this.dropped ??= this.link.ended.then(() => this.drop());
    return this.dropped;
  }
}

/** A warm community whose first leaves can also write; `name` tells those of one seed apart. */
export function communityOf(seed: string, name: string, members: number, writers = 1): CommunityFile {
  const leaves = Array.from({ length: writers }, (_, leaf) => leaf);
  return makeCommunity({ accounts: seed, group: `${seed}/${name}` }, members, "warm", leaves);
}

export function leafKeysOf({ signaturePrivateKeys }: CommunityFile): readonly LeafKey[] {
  return signaturePrivateKeys.map((privateKey, leafIndex) => ({ leafIndex, privateKey }));
}

/** Real messages of one leaf. A few are made before and sent in turn: the service does not look at what is inside. */
export function messagesOf(
  community: CommunityFile,
  leaf: number,
  payloadBytes: number,
  count: number,
): Bytes[] {
  const adopted = community.leaves.find((each) => each.leaf === leaf)!;
  const { group } = adoptEpoch(communityCrypto, community)(adopted);
  const payload = new Uint8Array(payloadBytes).fill(0x6d);
  return Array.from({ length: count }, () => group.createApplicationMessage(payload).message);
}

/** Submit ids without end, by seed. */
export function submitIds(seed: string, purpose: string): () => SubmitId {
  let next = 0;
  return () => submitId(derived(seed, "submit", purpose, next++).slice(0, 16));
}
