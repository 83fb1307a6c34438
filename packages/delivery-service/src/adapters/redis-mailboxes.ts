import { randomFillSync } from "node:crypto";
import {
  type Bytes,
  type DeviceAddress,
  type EnvelopeId,
  envelopeId,
  equalBytes,
  formatAddress,
  formatId,
  fromBase64Url,
  parseAddress,
  parseGroupId,
  type StoreId,
  storeId,
  toBase64Url,
  toHex,
  UnavailableError,
} from "@murmuration/base";
import type {
  Append,
  AppendOutcome,
  MailboxDepth,
  MailboxStore,
  NewEnvelope,
  StoredEnvelope,
  StoreState,
} from "../ports/mailboxes.ts";
import type { RedisArgument, RedisCommands } from "./redis-client.ts";
import * as scripts from "./redis-mailbox-scripts.ts";

/** Hash tags over which mailboxes, and submits, are spread; a Redis Cluster puts each into a slot. */
const SHELVES = 256;
/** Whoever works on an intent may do so for this long after having seen that it is one, in milliseconds. */
const LEASE_MS = 60_000;
/**
 * How long a shelf knows what was carried out, from the last time that somebody did. More than twice the lease, and the
 * difference of the clocks of a Redis Cluster's nodes.
 */
const DONE_MEMORY_MS = 600_000;
/** Age from which an intent is taken for abandoned: a submit is long answered by then. */
const ABANDONED_MS = 3_000;
const SWEEP_INTERVAL_MS = 5_000;
const SWEEP_BATCH = 100;
const COMPACT_INTERVAL_MS = 1_800_000;
const READ_CHUNK = 32;
const COUNT_INTERVAL_MS = 2_000;

/** Indexes of the envelopes of an append, by the shelf of their recipients. */
type Shelves = ReadonlyMap<number, readonly number[]>;

/** What is stored, wherever it is read from: as arguments of a script, three for each envelope. */
interface Work {
  readonly submitHash: Bytes;
  readonly accepted: RedisArgument;
  readonly recipients: readonly DeviceAddress[];
  /** Address, ciphertext and what else belongs to it, for each envelope. */
  readonly parts: readonly (readonly [RedisArgument, RedisArgument, RedisArgument])[];
}

/**
 * {@link MailboxStore} on Redis. Keys, each with when it goes:
 * - `<prefix>{m<xx>}:box:<address>` and `:envelopes:<address>`, a mailbox; xx is the first byte of the account id, so that
 *   an account's devices are on one shelf. They go with `remove` (the device is removed, or was idle for too long).
 * - `<prefix>{m<xx>}:ages`, `:bytes`, `:owners` of the mailboxes on a shelf: with the last envelope, or mailbox, of it.
 * - `<prefix>{m<xx>}:once`, hashes of submits that were stored on this shelf alone: by age, in `expireSubmits`.
 * - `<prefix>{m<xx>}:done`, hashes of intents that were carried out on this shelf: ten minutes after the last time.
 * - `<prefix>{s<xx>}:tried`, on which shelf a submit may be known alone, xx being its hash's first byte: likewise.
 * - `<prefix>{s<xx>}:submits`, hashes of submits that were stored on several shelves: likewise.
 * - `<prefix>{s<xx>}:intents` and `:intent:<hash>`: as soon as what is intended was done.
 * - `<prefix>compacted`, that one of the nodes had Redis rewrite its file: after half an hour.
 * - `{<prefix>store-id}:counts`, how far each start of a node has counted: never, or an old count would be taken for a lost one.
 * - `<prefix>store-id` never: it is the store. Whoever deletes it says that something of the store was lost.
 *
 * A submit to mailboxes on one shelf, as all devices of an account are, is one script and so one transaction; `tried`,
 * written at the same time, only says where its hash is to be looked for. One to several shelves is stored in steps, and
 * after the second one it is decided:
 * 1. Look whether every mailbox is there and has room. A crash leaves nothing.
 * 2. Write down what is going to be stored, under the submit's hash: the intent. It is durable when that is answered.
 * 3. Store it on every shelf, each of which remembers the hash, so that this may be repeated by anybody.
 * 4. Put the hash to those of stored submits, and delete the intent. Now it is answered as stored.
 * An intent that was left behind is carried out by whoever sends the same submit again, or asks for it, and otherwise by
 * the next sweep of any node: at start and every five seconds. Several who do so at a time do no harm. A straggler does
 * none either: steps 3 and 4 carry a deadline, a minute after the intent was seen, and shelves remember for ten.
 *
 * What differs from one transaction: a reader may see an envelope in one mailbox a moment before it is in another. A
 * mailbox that is filled between steps 1 and 3 takes its envelope nevertheless, and exceeds its limits by what was
 * under way. One that is removed in between is passed over, as its envelopes would be gone by now. And two different
 * submits which somebody sends under one hash at the same time may both be stored.
 */
export class RedisMailboxStore implements MailboxStore {
  private readonly redis: RedisCommands;
  private readonly listeners: ((storeId: StoreId) => void)[] = [];
  private known: StoreId | undefined;
  private readonly run: Bytes = randomFillSync(new Uint8Array(8));
  /** Of the store that is known. */
  private reached: StoreState | undefined;

  constructor(redis: RedisCommands) {
    this.redis = redis;
    redis.onReconnect(() => void this.checkAndSweep().catch(() => {}));
    redis.repeat(COUNT_INTERVAL_MS, () => this.count());
    redis.repeat(SWEEP_INTERVAL_MS, () => this.checkAndSweep());
    void this.checkAndSweep().catch(() => {});
  }

  /** Reads it anew; where it is another one than before, those who asked for it hear of it first. */
  async storeId(): Promise<StoreId> {
    const key = `${this.redis.prefix}store-id`;
    const drawn = randomFillSync(new Uint8Array(16));
    const id = storeId((await this.redis.run(scripts.STORE_ID, [key], drawn)) as Buffer);
    const before = this.known;
    this.known = id;
    if (before !== undefined && !equalBytes(before, id)) {
      this.reached = undefined;
      for (const run of this.listeners) run(id);
    }
    return id;
  }

  onLost(run: (storeId: StoreId) => void): void {
    this.listeners.push(run);
  }

  state(): StoreState | undefined {
    return this.reached;
  }

  async requireState(of: StoreId, { run, count }: StoreState): Promise<void> {
    const drawn = randomFillSync(new Uint8Array(16));
    const isHere = await this.redis.run(scripts.REQUIRE_COUNT, this.countKeys(), run, count, of, drawn);
    if (isHere !== 1) await this.storeId();
  }

  /**
   * Goes on to the next state: Redis keeps what it is told in order, so that it has all before it that has this. Where it has
   * not even the state that it had reached it is another Redis, or has lost something, and becomes another store.
   */
  async count(): Promise<void> {
    const { run } = this;
    const of = await this.storeId();
    const drawn = randomFillSync(new Uint8Array(16));
    const reached = this.reached?.count ?? 0;
    const count = Number(await this.redis.run(scripts.COUNT, this.countKeys(), run, reached, of, drawn));
    if (count === 0) await this.storeId();
    // Meanwhile it may have become another one.
    else if (this.known !== undefined && equalBytes(this.known, of)) this.reached = { run, count };
  }

  async open(address: DeviceAddress, openedAtMs: number): Promise<void> {
    const shelf = mailboxShelf(address);
    const keys = [this.onShelf(shelf, `box:${formatAddress(address)}`), this.onShelf(shelf, "owners")];
    await this.redis.run(scripts.OPEN, keys, formatAddress(address), openedAtMs);
  }

  async remove(address: DeviceAddress): Promise<void> {
    const keys = [...this.mailboxKeys(address), this.onShelf(mailboxShelf(address), "owners")];
    await this.redis.run(scripts.REMOVE, keys, formatAddress(address));
  }

  async append(append: Append): Promise<AppendOutcome> {
    const { submitHash } = append;
    const { state, nowMs } = await this.look(submitHash);
    if (state === "intended") await this.carryOutIntent(submitHash);
    if (state !== "unknown") return { kind: "repeated" };
    const work = toWork(append);
    const shelves = onShelves(work.recipients);
    return shelves.size === 1
      ? this.storeOnOne(append, work, shelves)
      : this.storeOnMany(append, work, shelves, nowMs + LEASE_MS);
  }

  async wasStored(submitHash: Bytes): Promise<boolean> {
    const { state } = await this.look(submitHash);
    if (state === "intended") await this.carryOutIntent(submitHash);
    return state !== "unknown";
  }

  async read(
    address: DeviceAddress,
    after: EnvelopeId,
    limits: { readonly maxEnvelopes: number; readonly maxBytes: number },
  ): Promise<readonly StoredEnvelope[]> {
    const stream = this.onShelf(mailboxShelf(address), `envelopes:${formatAddress(address)}`);
    const page: StoredEnvelope[] = [];
    let bytes = 0;
    let last: number = after;
    for (;;) {
      const count = Math.min(READ_CHUNK, limits.maxEnvelopes - page.length);
      if (count <= 0) return page;
      const entries = (await this.redis.call(
        "XRANGE",
        stream,
        last + 1,
        "+",
        "COUNT",
        count,
      )) as readonly Entry[];
      for (const entry of entries) {
        const envelope = toEnvelope(entry);
        bytes += envelope.ciphertext.length;
        if (page.length > 0 && bytes > limits.maxBytes) return page;
        page.push(envelope);
        last = envelope.id;
      }
      if (entries.length < count) return page;
    }
  }

  /**
   * Throws UnavailableError `store/mailboxes-lost` where the store is another one than before: ids begin anew with it, and
   * an old one would delete envelopes that nobody has seen.
   */
  async acknowledge(address: DeviceAddress, through: EnvelopeId): Promise<number> {
    const { known } = this;
    const now = await this.storeId();
    if (known !== undefined && !equalBytes(known, now)) throw new UnavailableError("store/mailboxes-lost");
    const keys = this.mailboxKeys(address);
    return Number(await this.redis.run(scripts.ACKNOWLEDGE, keys, formatAddress(address), through));
  }

  async discard(address: DeviceAddress, ids: readonly EnvelopeId[]): Promise<void> {
    await this.discardFrom(formatAddress(address), ids);
  }

  async lastId(address: DeviceAddress): Promise<EnvelopeId | undefined> {
    const last = await this.redis.call("HGET", this.mailboxKeys(address)[0]!, "last");
    return last === null ? undefined : envelopeId(Number(last));
  }

  async depth(address: DeviceAddress): Promise<MailboxDepth | undefined> {
    const [box, stream] = this.mailboxKeys(address);
    const [bytes, envelopes] = await Promise.all([
      this.redis.call("HGET", box!, "bytes"),
      this.redis.call("XLEN", stream!),
    ]);
    return bytes === null ? undefined : { envelopes: Number(envelopes), bytes: Number(bytes) };
  }

  /** One round trip. */
  async totals(): Promise<MailboxDepth> {
    const [counts, bytes] = await Promise.all([
      this.onEveryShelf((shelf) => this.redis.call("ZCARD", this.onShelf(shelf, "ages"))),
      this.onEveryShelf((shelf) => this.redis.call("GET", this.onShelf(shelf, "bytes"))),
    ]);
    return { envelopes: sum(counts), bytes: sum(bytes) };
  }

  async expireEnvelopes(beforeMs: number, limit: number): Promise<number> {
    return this.upTo(
      limit,
      beforeMs,
      (shelf) => this.onShelf(shelf, "ages"),
      async (ages, count) => {
        const old = (await this.redis.call(
          "ZRANGEBYSCORE",
          ages,
          "-inf",
          `(${beforeMs}`,
          "LIMIT",
          0,
          count,
        )) as readonly Buffer[];
        const found = old.map((member) => String(member).split(" ") as [string, string]);
        const mailboxes = Map.groupBy(found, ([address]) => address);
        const removed = await Promise.all(
          [...mailboxes].map(([address, ids]) =>
            this.discardFrom(
              address,
              ids.map(([, id]) => id),
            ),
          ),
        );
        return sum(removed);
      },
    );
  }

  async expireSubmits(beforeMs: number, limit: number): Promise<number> {
    const trim = (key: string, count: number, below = beforeMs) =>
      this.redis.run(scripts.TRIM, [key], below, count).then(Number);
    await this.onEveryShelf((shelf) => trim(this.submitKey(shelf, "tried"), limit, beforeMs * SHELVES));
    const alone = await this.upTo(limit, beforeMs, (shelf) => this.onShelf(shelf, "once"), trim);
    const keyOfMany = (shelf: number) => this.submitKey(shelf, "submits");
    return alone + (await this.upTo(limit - alone, beforeMs, keyOfMany, trim));
  }

  async owners(
    after: DeviceAddress | undefined,
    limit: number,
    openedBeforeMs: number,
  ): Promise<readonly DeviceAddress[]> {
    const owners: DeviceAddress[] = [];
    let from = after === undefined ? "-" : `(${formatAddress(after)}`;
    let shelf = after === undefined ? 0 : mailboxShelf(after);
    while (owners.length < limit && shelf < SHELVES) {
      const page = await this.ownersOnShelf(shelf, from, limit);
      owners.push(...page.filter(({ openedAtMs }) => openedAtMs < openedBeforeMs).map(({ owner }) => owner));
      const isLastOfShelf = page.length < limit;
      if (isLastOfShelf) shelf++;
      from = isLastOfShelf ? "-" : `(${formatAddress(page.at(-1)!.owner)}`;
    }
    return owners.slice(0, limit);
  }

  /** Finishes what others left behind, and forgets what need not be remembered any longer. O(shelves) without either. */
  async sweep(): Promise<void> {
    const nowMs = await this.now();
    const oldest = await this.onEveryShelf((shelf) => this.abandoned(shelf, nowMs));
    const before = Math.min(nowMs, ...oldest) - DONE_MEMORY_MS;
    await this.onEveryShelf((shelf) =>
      this.redis.run(scripts.TRIM, [this.onShelf(shelf, "done")], before, SWEEP_BATCH * 10),
    );
  }

  /**
   * Has Redis write its file anew, without what was deleted since: else that would stay until the file has doubled.
   * Once in half an hour, however many nodes ask for it; not where Redis is at it already, or does not let us.
   */
  async compact(): Promise<void> {
    const key = `${this.redis.prefix}compacted`;
    if ((await this.redis.call("SET", key, "1", "NX", "PX", COMPACT_INTERVAL_MS)) === null) return;
    await this.redis.call("BGREWRITEAOF").catch((error: unknown) => {
      if (!(error instanceof UnavailableError) || error.code !== "store/redis-refused") throw error;
    });
  }

  private async checkAndSweep(): Promise<void> {
    await this.storeId();
    await this.sweep();
  }

  /** Carries out the abandoned intents of a shelf. Answers when the oldest was written that was there before. */
  private async abandoned(shelf: number, nowMs: number): Promise<number> {
    const key = this.submitKey(shelf, "intents");
    const [oldest, hashes] = (await Promise.all([
      this.redis.call("ZRANGE", key, 0, 0, "WITHSCORES"),
      this.redis.call("ZRANGEBYSCORE", key, "-inf", nowMs - ABANDONED_MS, "LIMIT", 0, SWEEP_BATCH),
    ])) as [readonly Buffer[], readonly Buffer[]];
    for (const hash of hashes) await this.carryOutIntent(new Uint8Array(hash));
    return oldest[1] === undefined ? nowMs : Number(oldest[1]);
  }

  private async storeOnOne(append: Append, work: Work, shelves: Shelves): Promise<AppendOutcome> {
    const { submitHash, acceptedAtMs, limits } = append;
    const [[shelf, indexes]] = [...shelves] as [[number, readonly number[]]];
    const keys = ["once", "ages", "bytes"].map((name) => this.onShelf(shelf, name));
    const [answer] = await Promise.all([
      this.redis.run(
        scripts.STORE,
        [...keys, ...this.boxes(work, indexes)],
        submitHash,
        acceptedAtMs,
        limits.maxEnvelopes,
        limits.maxBytes,
        ...partsOf(work, indexes),
      ),
      this.redis.call("ZADD", this.submitKeys(submitHash).tried, acceptedAtMs * SHELVES + shelf, submitHash),
    ]);
    const [kind, ...found] = answer as [Buffer, ...number[]];
    const outcome = String(kind) as AppendOutcome["kind"];
    if (outcome === "missing" || outcome === "full") {
      return { kind: outcome, devices: found.map((index) => work.recipients[index]!) };
    }
    return { kind: outcome };
  }

  private async storeOnMany(
    append: Append,
    work: Work,
    shelves: Shelves,
    deadline: number,
  ): Promise<AppendOutcome> {
    const refused = await this.check(append, work, shelves);
    if (refused !== undefined) return refused;
    const key = this.submitKeys(append.submitHash);
    const answer = await this.redis.run(
      scripts.INTEND,
      [key.submits, key.intents, key.intent],
      append.submitHash,
      work.accepted,
      ...work.parts.flat(),
    );
    const state = String(answer);
    if (state === "intended") await this.carryOutIntent(append.submitHash);
    if (state !== "new") return { kind: "repeated" };
    await this.carryOut(work, shelves, deadline);
    return { kind: "stored" };
  }

  private async check(append: Append, work: Work, shelves: Shelves): Promise<AppendOutcome | undefined> {
    const { maxEnvelopes, maxBytes } = append.limits;
    const found: string[] = [];
    await Promise.all(
      [...shelves.values()].map(async (indexes) => {
        const sizes = indexes.map((index) => append.envelopes[index]!.ciphertext.length);
        const keys = this.boxes(work, indexes);
        const answers = await this.redis.run(scripts.CHECK, keys, maxEnvelopes, maxBytes, ...sizes);
        (answers as readonly Buffer[]).forEach((answer, i) => {
          found[indexes[i]!] = String(answer);
        });
      }),
    );
    for (const kind of ["missing", "full"] as const) {
      const devices = work.recipients.filter((_, index) => found[index] === kind);
      if (devices.length > 0) return { kind, devices };
    }
    return undefined;
  }

  /** Does what somebody wrote down; nothing where that was done meanwhile. */
  private async carryOutIntent(submitHash: Bytes): Promise<void> {
    // In this order: the deadline is counted from before the intent is seen.
    const { state, nowMs } = await this.look(submitHash);
    if (state !== "intended") return;
    const key = this.submitKeys(submitHash);
    const [accepted, ...parts] = (await this.redis.call("LRANGE", key.intent, 0, -1)) as readonly Buffer[];
    if (accepted === undefined) return;
    const work = {
      submitHash,
      accepted,
      recipients: parts.filter((_, i) => i % 3 === 0).map((address) => parseAddress(String(address))),
      parts: parts.flatMap((address, i) =>
        i % 3 === 0 ? [[address, parts[i + 1]!, parts[i + 2]!] as const] : [],
      ),
    };
    await this.carryOut(work, onShelves(work.recipients), nowMs + LEASE_MS);
  }

  /** Throws UnavailableError `store/write-failed`: it may be stored, and will be when the intent is still there. */
  private async carryOut(work: Work, shelves: Shelves, deadline: number): Promise<void> {
    const { submitHash, accepted } = work;
    const done = await Promise.all(
      [...shelves].map(([shelf, indexes]) =>
        this.redis.run(
          scripts.CARRY_OUT,
          [
            ...["done", "ages", "bytes"].map((name) => this.onShelf(shelf, name)),
            ...this.boxes(work, indexes),
          ],
          submitHash,
          deadline,
          accepted,
          ...partsOf(work, indexes),
        ),
      ),
    );
    if (done.some((answer) => Number(answer) !== 1)) throw new UnavailableError("store/write-failed");
    const key = this.submitKeys(submitHash);
    const keys = [key.submits, key.intents, key.intent];
    const finished = await this.redis.run(scripts.FINISH, keys, submitHash, deadline, accepted);
    if (Number(finished) !== 1) throw new UnavailableError("store/write-failed");
  }

  private async look(
    submitHash: Bytes,
  ): Promise<{ readonly state: "stored" | "intended" | "unknown"; readonly nowMs: number }> {
    const key = this.submitKeys(submitHash);
    const answer = await this.redis.run(scripts.LOOK, [key.submits, key.intent, key.tried], submitHash);
    const [nowMs, state, tried] = (answer as readonly Buffer[]).map(String);
    const known = state === "stored" || (tried !== undefined && (await this.isOnShelf(tried, submitHash)));
    return { state: known ? "stored" : state === "intended" ? state : "unknown", nowMs: Number(nowMs) };
  }

  private async isOnShelf(tried: string, submitHash: Bytes): Promise<boolean> {
    const once = this.onShelf(Number(tried) % SHELVES, "once");
    return (await this.redis.call("ZSCORE", once, submitHash)) !== null;
  }

  private async now(): Promise<number> {
    const [seconds, micros] = ((await this.redis.call("TIME")) as readonly Buffer[]).map(Number);
    return seconds! * 1_000 + Math.floor(micros! / 1_000);
  }

  private async discardFrom(address: string, ids: readonly (string | number)[]): Promise<number> {
    const keys = this.mailboxKeys(parseAddress(address));
    return Number(await this.redis.run(scripts.DISCARD, keys, address, ...ids));
  }

  private async ownersOnShelf(
    shelf: number,
    from: string,
    limit: number,
  ): Promise<readonly { readonly owner: DeviceAddress; readonly openedAtMs: number }[]> {
    const key = this.onShelf(shelf, "owners");
    const found = (await this.redis.call(
      "ZRANGEBYLEX",
      key,
      from,
      "+",
      "LIMIT",
      0,
      limit,
    )) as readonly Buffer[];
    return Promise.all(
      found.map(async (member) => {
        const opened = await this.redis.call("HGET", this.onShelf(shelf, `box:${member}`), "opened");
        const openedAtMs = opened === null ? Number.POSITIVE_INFINITY : Number(opened);
        return { owner: parseAddress(String(member)), openedAtMs };
      }),
    );
  }

  /** Removes up to `limit` of what lies below a score in the sorted sets of all shelves, one shelf after the other. */
  private async upTo(
    limit: number,
    beforeMs: number,
    keyOf: (shelf: number) => string,
    remove: (key: string, count: number) => Promise<number>,
  ): Promise<number> {
    const counts = await this.onEveryShelf((shelf) =>
      this.redis.call("ZCOUNT", keyOf(shelf), "-inf", `(${beforeMs}`),
    );
    let removed = 0;
    for (const [shelf, count] of counts.entries()) {
      const wanted = Math.min(Number(count), limit - removed);
      if (wanted > 0) removed += await remove(keyOf(shelf), wanted);
    }
    return removed;
  }

  private onEveryShelf<T>(run: (shelf: number) => Promise<T>): Promise<readonly T[]> {
    return Promise.all(Array.from({ length: SHELVES }, (_, shelf) => run(shelf)));
  }

  private boxes({ recipients }: Work, indexes: readonly number[]): readonly string[] {
    return indexes.flatMap((index) => this.mailboxKeys(recipients[index]!).slice(0, 2));
  }

  /** On one slot: the whole of a key without braces counts. */
  private countKeys(): [string, string] {
    const storeIdKey = `${this.redis.prefix}store-id`;
    return [storeIdKey, `{${storeIdKey}}:counts`];
  }

  /** Box, stream, and what the shelf's mailboxes share: ages, bytes. */
  private mailboxKeys(address: DeviceAddress): readonly string[] {
    const name = formatAddress(address);
    const shelf = mailboxShelf(address);
    return [`box:${name}`, `envelopes:${name}`, "ages", "bytes"].map((key) => this.onShelf(shelf, key));
  }

  private onShelf(shelf: number, name: string): string {
    return `${this.redis.prefix}{m${hex(shelf)}}:${name}`;
  }

  private submitKeys(submitHash: Bytes): Record<"submits" | "intents" | "intent" | "tried", string> {
    const shelf = submitHash[0]!;
    return {
      submits: this.submitKey(shelf, "submits"),
      tried: this.submitKey(shelf, "tried"),
      intents: this.submitKey(shelf, "intents"),
      intent: this.submitKey(shelf, `intent:${toHex(submitHash)}`),
    };
  }

  private submitKey(shelf: number, name: string): string {
    return `${this.redis.prefix}{s${hex(shelf)}}:${name}`;
  }
}

type Entry = readonly [Buffer, readonly Buffer[]];

function mailboxShelf(address: DeviceAddress): number {
  return address.accountId[0]!;
}

function hex(shelf: number): string {
  return shelf.toString(16).padStart(2, "0");
}

function onShelves(recipients: readonly DeviceAddress[]): Shelves {
  return Map.groupBy(recipients.keys(), (index) => mailboxShelf(recipients[index]!));
}

function toWork({ submitHash, acceptedAtMs, envelopes }: Append): Work {
  return {
    submitHash,
    accepted: acceptedAtMs,
    recipients: envelopes.map(({ recipient }) => recipient),
    parts: envelopes.map((envelope) => [
      formatAddress(envelope.recipient),
      envelope.ciphertext,
      formatExtra(envelope),
    ]),
  };
}

function partsOf({ parts }: Work, indexes: readonly number[]): readonly RedisArgument[] {
  return indexes.flatMap((index) => parts[index]!);
}

/** `s <address>` of an identified sender, `w <group> <tree hash> <sequence>` of a Welcome, or nothing. */
function formatExtra({ source, welcome }: NewEnvelope): string {
  if (welcome !== undefined) {
    return `w ${formatId(welcome.groupId)} ${toBase64Url(welcome.treeHash)} ${welcome.sequence}`;
  }
  return source === undefined ? "" : `s ${formatAddress(source)}`;
}

function toEnvelope([id, [, accepted, , ciphertext, , extra]]: Entry): StoredEnvelope {
  const [kind, first = "", second = "", third] = String(extra).split(" ");
  return {
    id: envelopeId(Number.parseInt(String(id), 10)),
    ciphertext: new Uint8Array(ciphertext!),
    source: kind === "s" ? parseAddress(first) : undefined,
    welcome:
      kind === "w"
        ? { groupId: parseGroupId(first), treeHash: fromBase64Url(second), sequence: Number(third) }
        : undefined,
    acceptedAtMs: Number(accepted),
  };
}

function sum(counts: readonly unknown[]): number {
  return counts.reduce<number>((total, count) => total + Number(count ?? 0), 0);
}
