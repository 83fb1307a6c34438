import { createHash } from "node:crypto";
import { type Bytes, formatId, groupId, RejectionError, utf8 } from "@murmuration/base";
import {
  decodeMessage,
  encodeMessage,
  type GroupOperation,
  groupLeaseRenewal,
  groupLeaseReply,
  groupWriteReply,
  groupWriteRequest,
  limits,
  type MessageType,
  PROTOBUF_CONTENT_TYPE,
  rejection,
  routePath,
  routes,
} from "@murmuration/wire";
import { MemorySpentChallenges } from "../../src/adapters/memory-spent-challenges.ts";
import { createChallenge } from "../../src/core/challenge.ts";
import { decideSealedSubmit } from "../../src/core/submit.ts";
import type { GroupRecordStore } from "../../src/ports/group-records.ts";
import type { HttpRequest } from "../../src/ports/socket-server.ts";
import type { ServiceContext } from "../../src/service/context.ts";
import { GroupRoutes } from "../../src/service/group-routes.ts";
import { type Handlers, handleRequest } from "../../src/service/http.ts";
import { generateGeneration, groupAccessHeader } from "./group-access.ts";
import { type GroupModel, LEASE_MS, type ModelAnswer, type ModelRequest } from "./migration-model.ts";
import { random } from "./random.ts";

export const START_MS = 1_800_000_000_000;
const digest = (text: string): Bytes => new Uint8Array(createHash("sha256").update(text).digest());
const tokenBytes = (n: number): Bytes => digest(`token ${n}`).slice(0, 16);
const fenceBytes = (n: number): Bytes => digest(`fence ${n}`).slice(0, 16);
export const blobBytes = (n: number): Bytes => utf8(`blob ${n}`);

/** One key for all groups: what is tested is not the signature. */
const key = generateGeneration();

/** Where a group's record is kept, and how that ends and begins again. */
export interface Shelf {
  open(): Promise<GroupRecordStore>;
  /** The store after the service was stopped and started. */
  reopen(store: GroupRecordStore): Promise<GroupRecordStore>;
  /** What is wrong with the service; the identity where nothing is. */
  readonly fault: (store: GroupRecordStore) => GroupRecordStore;
}

/** The service's routes for one group, with time and store in the hands of a test. */
export class MigrationWorld {
  readonly id = groupId(random(16));
  nowMs = START_MS;
  /** Turns of the event loop that the next calls of the store wait, in their order. */
  delays: number[] = [];
  private readonly shelf: Shelf;
  private store: GroupRecordStore;
  private routes = new GroupRoutes();
  private challengeKey = random(32);
  private spentChallenges = this.noneSpent();

  private constructor(shelf: Shelf, store: GroupRecordStore) {
    this.shelf = shelf;
    this.store = store;
  }

  static async open(shelf: Shelf, group: GroupModel): Promise<MigrationWorld> {
    const world = new MigrationWorld(shelf, await shelf.open());
    const first = { revision: 0, blob: group.blob, fence: group.fence, step: undefined };
    const created = await world.answer({ kind: "write", ...first });
    if (created.kind !== "written") throw new Error("the group was not created");
    return world;
  }

  async restart(): Promise<void> {
    this.store = await this.shelf.reopen(this.store);
    this.routes = new GroupRoutes();
    this.challengeKey = random(32);
    this.spentChallenges = this.noneSpent();
  }

  private noneSpent(): MemorySpentChallenges {
    return new MemorySpentChallenges({ now: () => this.nowMs, after: () => () => {} });
  }

  /** The store as the service has it, with its fault. */
  private records(): GroupRecordStore {
    return this.shelf.fault(this.store);
  }

  /** Sends a request as a client does, and reads the answer as one does. */
  async answer(request: ModelRequest): Promise<ModelAnswer> {
    if (request.kind === "renew") {
      const body = encodeMessage(groupLeaseRenewal, {
        generation: request.generation,
        leaseToken: tokenBytes(request.token),
      });
      return this.send("renewLease", "renew-lease", body, (raw) => {
        return { kind: "renewed", ...decodeMessage(groupLeaseReply, raw, 100) };
      });
    }
    const { revision, blob, fence, step } = request;
    const body = encodeMessage(groupWriteRequest, {
      expectedRevision: revision,
      blob: blobBytes(blob),
      ...(fence !== undefined && {
        generation: { accessPublicKey: key.accessPublicKey, fence: fenceBytes(fence) },
      }),
      ...(step && {
        migration: {
          state: step.to,
          generation: step.generation,
          ...(step.token !== undefined && { leaseToken: tokenBytes(step.token) }),
          ...(step.newToken !== undefined && { newLeaseToken: tokenBytes(step.newToken) }),
        },
      }),
    });
    return this.send("writeGroup", "write", body, (raw) => {
      return { kind: "written", ...decodeMessage(groupWriteReply, raw, 100) };
    });
  }

  /** What a member reads, or the code of a refusal. */
  async read(): Promise<object> {
    const response = await this.request("readGroup", "read", new Uint8Array(0));
    const type = response.status === 200 ? routes.readGroup.reply : rejection;
    return decodeMessage(type as MessageType<object>, response.body as Bytes, limits.groupRecordBytes);
  }

  /** Whether a submit with this fence is taken. */
  async takes(fence: number): Promise<boolean> {
    const group = await this.records().load(this.id);
    const submit = {
      submitId: random(16),
      recipients: [],
      fence: { groupId: this.id, fence: fenceBytes(fence) },
      ephemeral: false,
    };
    try {
      return decideSealedSubmit({ accounts: [], group }, submit as never).kind === "store";
    } catch (error) {
      if (error instanceof RejectionError && error.code === "submit/fence-outdated") return false;
      throw error;
    }
  }

  migrations(): ReturnType<GroupRecordStore["migrations"]> {
    return this.records().migrations();
  }

  private async send(
    name: "writeGroup" | "renewLease",
    operation: GroupOperation,
    body: Bytes,
    decode: (raw: Bytes) => ModelAnswer,
  ): Promise<ModelAnswer> {
    const response = await this.request(name, operation, body);
    if (response.status === 200) return decode(response.body as Bytes);
    const { code, retryAfterMs } = decodeMessage(rejection, response.body as Bytes, 1000);
    return { kind: "refused", code, ...(retryAfterMs !== undefined && { retryAfterMs }) };
  }

  private request(
    name: "readGroup" | "writeGroup" | "renewLease",
    operation: GroupOperation,
    body: Bytes,
  ): ReturnType<typeof handleRequest> {
    const challenge = createChallenge(this.challengeKey, random(8), this.nowMs + 1000);
    const headers: Record<string, string> = {
      ...groupAccessHeader(this.id, key, operation, challenge, body),
      "content-type": PROTOBUF_CONTENT_TYPE,
    };
    const request: Partial<HttpRequest> = {
      method: routes[name].method,
      path: routePath(name, { groupId: formatId(this.id) }),
      remoteAddress: "10.0.0.1",
      header: (header: string) => headers[header],
      body: async () => body,
    };
    const { read, write, renewLease } = this.routes;
    const handlers = { readGroup: read, writeGroup: write, renewLease } as Partial<Handlers>;
    return handleRequest(this.context(), handlers as Handlers, () => false, request as HttpRequest);
  }

  private context(): ServiceContext {
    return {
      stores: { groupRecords: this.slowed(this.records()) },
      clock: { now: () => this.nowMs },
      challengeKey: this.challengeKey,
      markKey: random(32),
      spentChallenges: this.spentChallenges,
      limits: { ...limits, migrationLeaseMs: LEASE_MS },
      rateLimits: { take: async () => ({ allowed: true }) },
      log: { info() {}, warn() {}, error() {} },
      metrics: { count() {}, observe() {}, gauge() {} },
    } as unknown as ServiceContext;
  }

  /** Each call of the store waits first, so that requests overlap in every way. */
  private slowed(store: GroupRecordStore): GroupRecordStore {
    const wait = async () => {
      for (let left = this.delays.shift() ?? 0; left > 0; left--) await Promise.resolve();
    };
    return {
      create: (record) => store.create(record),
      load: (id) => wait().then(() => store.load(id)),
      compareAndSet: (next, write) => wait().then(() => store.compareAndSet(next, write)),
      renewLease: (id, lease) => wait().then(() => store.renewLease(id, lease)),
      migrations: () => store.migrations(),
      touch: (id, day) => store.touch(id, day),
      expire: (day, limit) => store.expire(day, limit),
    };
  }
}
