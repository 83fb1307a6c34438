import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { accountId, type DeviceAddress, type DeviceId, envelopeId, formatAddress } from "@murmuration/base";
import { afterAll, beforeAll, describe, expect, inject, it } from "vitest";
import { RedisClient, type RedisCommands } from "../../src/adapters/redis-client.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import type { Append } from "../../src/ports/mailboxes.ts";
import { random } from "../support/random.ts";

const NOW = 1_800_000_000_000;
const DYING = fileURLToPath(new URL("../support/append-and-die.ts", import.meta.url));

/** On different shelves: a submit to them takes several steps. */
const address = (shelf: number): DeviceAddress => ({
  accountId: accountId(new Uint8Array([shelf, ...random(15)])),
  deviceId: 1 as DeviceId,
});

const to = (recipients: readonly DeviceAddress[], submitHash = random(32)): Append => ({
  submitHash,
  envelopes: recipients.map((recipient) => ({
    recipient,
    ciphertext: new Uint8Array(100).fill(7),
    source: undefined,
  })),
  acceptedAtMs: NOW,
  limits: { maxEnvelopes: 1_000, maxBytes: 1_000_000 },
});

describe.skipIf(inject("cluster") === undefined)(
  "a submit to mailboxes in different slots",
  { timeout: 30_000 },
  () => {
    let local: LocalRedis;
    beforeAll(async () => {
      local = await startLocalRedis();
    }, 30_000);
    afterAll(() => local.dispose());

    const open = (prefix: string) => RedisClient.open({ url: local.url, prefix });

    async function mailboxesOf(store: RedisMailboxStore, count: number): Promise<readonly DeviceAddress[]> {
      const recipients = Array.from({ length: count }, (_, shelf) => address(shelf));
      await Promise.all(recipients.map((recipient) => store.open(recipient, NOW)));
      return recipients;
    }

    async function counts(store: RedisMailboxStore, recipients: readonly DeviceAddress[]): Promise<number[]> {
      const everything = { maxEnvelopes: 1_000, maxBytes: 1_000_000 };
      const read = recipients.map((recipient) => store.read(recipient, envelopeId(0), everything));
      return (await Promise.all(read)).map((envelopes) => envelopes.length);
    }

    const steps = ["before", "after"].flatMap((when) =>
      Array.from({ length: 10 }, (_, number) => ({ when, number })),
    );

    // Scripts: look, three checks, the intent, three shelves, the end; the tenth is one too many, nobody dies.
    it.each(steps)(
      "a node killed $when its script $number: sent again it is there once",
      async ({ when, number }) => {
        const prefix = `again-${when}-${number}:`;
        const redis = await open(prefix);
        const store = new RedisMailboxStore(redis);
        const recipients = await mailboxesOf(store, 3);
        const append = to(recipients);
        const answer = await appendAndDie(prefix, when, number, append);
        expect(answer).toBe(number === 9 ? "stored" : undefined);
        expect(["stored", "repeated"]).toContain((await store.append(append)).kind);
        expect(await counts(store, recipients)).toEqual([1, 1, 1]);
        expect(await store.append(append)).toEqual({ kind: "repeated" });
        expect(await counts(store, recipients)).toEqual([1, 1, 1]);
        await redis.close();
      },
    );

    it.each(steps)(
      "a node killed $when its script $number: another one sweeps, it is whole or nothing",
      async ({ when, number }) => {
        const prefix = `swept-${when}-${number}:`;
        const redis = await open(prefix);
        const store = new RedisMailboxStore(redis);
        const recipients = await mailboxesOf(store, 3);
        const append = to(recipients);
        await appendAndDie(prefix, when, number, append);
        const decided = number > 4 || (number === 4 && when === "after");
        await ageIntents(redis);
        await store.sweep();
        expect(await counts(store, recipients)).toEqual(decided ? [1, 1, 1] : [0, 0, 0]);
        expect(await store.wasStored(append.submitHash)).toBe(decided);
        expect(await intents(redis)).toEqual([]);
        await redis.close();
      },
    );

    // Scripts: look, and the one that stores.
    it.each(steps.filter(({ number }) => number < 2))(
      "to one account's devices, its node killed $when script $number: whole or nothing, and known if whole",
      async ({ when, number }) => {
        const prefix = `one-${when}-${number}:`;
        const redis = await open(prefix);
        const store = new RedisMailboxStore(redis);
        const { accountId: account } = address(9);
        const devices = [1, 2, 3].map((n) => ({ accountId: account, deviceId: n as DeviceId }));
        await Promise.all(devices.map((device) => store.open(device, NOW)));
        const append = to(devices);
        await appendAndDie(prefix, when, number, append);
        const isWhole = number === 1 && when === "after";
        expect(await counts(store, devices)).toEqual(isWhole ? [1, 1, 1] : [0, 0, 0]);
        expect(await store.wasStored(append.submitHash)).toBe(isWhole);
        expect(await store.append(append)).toEqual({ kind: isWhole ? "repeated" : "stored" });
        expect(await counts(store, devices)).toEqual([1, 1, 1]);
        await redis.close();
      },
    );

    it("Redis killed at any step: what was answered is there once, and what was not is when it is sent again", async () => {
      const prefix = "killed:";
      const redis = await open(prefix);
      const recipients = await mailboxesOf(new RedisMailboxStore(redis), 3);
      let step = 0;
      const dying: RedisCommands = {
        prefix,
        call: (command, ...args) => redis.call(command, ...args),
        async run(script, keys, ...args) {
          const answer = redis.run(script, keys, ...args);
          if (!["store-id", "trim"].includes(script.name) && step-- === 0)
            await Promise.all([answer.catch(() => {}), local.kill()]);
          return answer;
        },
        onReconnect: () => {},
        repeat: () => {},
      };
      const store = new RedisMailboxStore(dying);
      const outcomes: string[] = [];
      for (let round = 0; round < 10; round++) {
        const append = to(recipients);
        step = round;
        const first = await store.append(append).then(
          ({ kind }) => kind,
          (error: { readonly code: string }) => error.code,
        );
        outcomes.push(first);
        step = -1;
        await local.kill();
        await local.start();
        await until(() => redis.isReady);
        if (first === "stored")
          expect(await counts(store, recipients)).toEqual([round + 1, round + 1, round + 1]);
        expect(["stored", "repeated"]).toContain((await store.append(append)).kind);
        expect(await counts(store, recipients)).toEqual([round + 1, round + 1, round + 1]);
      }
      expect(outcomes.slice(0, 8)).toEqual(Array.from({ length: 8 }, () => "store/redis-unreachable"));
      expect(outcomes[9]).toBe("stored");
      await redis.close();
    }, 60_000);

    it("Redis killed under load at a random moment: nothing answered is lost, nothing is there twice", async () => {
      const prefix = "load:";
      const redis = await open(prefix);
      const store = new RedisMailboxStore(redis);
      const recipients = await mailboxesOf(store, 12);
      const fates = { stored: 0, cut: 0 };
      let expected = 0;
      for (let round = 0; round < 6; round++) {
        const appends: Append[] = [];
        let running = true;
        const caller = async () => {
          while (running) {
            const append = to(recipients);
            appends.push(append);
            const kind = await store.append(append).then(
              (outcome) => outcome.kind,
              () => "cut" as const,
            );
            if (kind === "cut") running = false;
            fates[kind === "stored" ? "stored" : "cut"]++;
          }
        };
        const callers = Array.from({ length: 8 }, caller);
        await new Promise((resolve) => setTimeout(resolve, 30 + Math.random() * 60));
        await local.kill();
        await Promise.all(callers);
        await local.start();
        await until(() => redis.isReady);
        for (const append of appends) {
          expect(["stored", "repeated"]).toContain((await store.append(append)).kind);
        }
        expected += appends.length;
        expect(new Set(await counts(store, recipients))).toEqual(new Set([expected]));
      }
      // The run proves nothing unless some were answered and some were cut off.
      expect(fates.stored).toBeGreaterThan(0);
      expect(fates.cut).toBeGreaterThan(0);
      await redis.close();
    }, 90_000);

    it("a mailbox that is removed after the intent is passed over, and the others have their envelope", async () => {
      const prefix = "removed:";
      const redis = await open(prefix);
      const store = new RedisMailboxStore(redis);
      const recipients = await mailboxesOf(store, 3);
      const append = to(recipients);
      await appendAndDie(prefix, "after", 4, append);
      await store.remove(recipients[1]!);
      expect(await store.append(append)).toEqual({ kind: "repeated" });
      expect(await counts(store, recipients)).toEqual([1, 0, 1]);
      expect(await store.depth(recipients[1]!)).toBeUndefined();
      await redis.close();
    });

    it("two nodes that finish the same intent at a time store it once", async () => {
      const prefix = "both:";
      const clients = await Promise.all([open(prefix), open(prefix)]);
      const stores = clients.map((client) => new RedisMailboxStore(client));
      const recipients = await mailboxesOf(stores[0]!, 3);
      for (let round = 1; round <= 5; round++) {
        const append = to(recipients);
        await appendAndDie(prefix, "after", 5, append);
        await ageIntents(clients[0]!);
        await Promise.all([
          ...stores.map((store) => store.sweep()),
          ...stores.map((store) => store.append(append)),
        ]);
        expect(await counts(stores[0]!, recipients)).toEqual([round, round, round]);
      }
      await Promise.all(clients.map((client) => client.close()));
    }, 30_000);

    it("a straggler that comes back after its deadline stores nothing a second time", async () => {
      const prefix = "straggler:";
      const redis = await open(prefix);
      const store = new RedisMailboxStore(redis);
      const recipients = await mailboxesOf(store, 3);
      // Redis's clock as the straggler saw it: a quarter of an hour ago.
      const late = new RedisMailboxStore({
        prefix,
        call: (command, ...args) => redis.call(command, ...args),
        async run(script, keys, ...args) {
          const answer = await redis.run(script, keys, ...args);
          if (script.name !== "look") return answer;
          const [nowMs, ...state] = answer as readonly Buffer[];
          return [Buffer.from(String(Number(nowMs) - 900_000)), ...state];
        },
        onReconnect: () => {},
        repeat: () => {},
      });
      const append = to(recipients);
      await expect(late.append(append)).rejects.toMatchObject({ code: "store/write-failed" });
      expect(await counts(store, recipients)).toEqual([0, 0, 0]);
      // It had decided, though: whoever comes next does it.
      expect(await store.append(append)).toEqual({ kind: "repeated" });
      expect(await counts(store, recipients)).toEqual([1, 1, 1]);
      await redis.close();
    });

    /** Makes every intent older than the sweep waits for. */
    async function ageIntents(redis: RedisClient): Promise<void> {
      for (const key of await intents(redis)) {
        const [hash] = (await redis.call("ZRANGE", key, 0, 0)) as [Buffer];
        await redis.call("ZADD", key, 1, hash);
      }
    }

    async function intents(redis: RedisClient): Promise<readonly string[]> {
      const keys = (await redis.call("KEYS", `${redis.prefix}*:intent*`)) as readonly Buffer[];
      return keys.map(String).filter((key) => key.endsWith(":intents"));
    }

    async function appendAndDie(
      prefix: string,
      when: string,
      number: number,
      { submitHash, envelopes }: Append,
    ): Promise<string | undefined> {
      const names = envelopes.map(({ recipient }) => formatAddress(recipient));
      const hash = Buffer.from(submitHash).toString("hex");
      const child = fork(DYING, [local.url, prefix, when, String(number), hash, ...names], {
        execArgv: [
          "--conditions=@murmuration/source",
          "--experimental-strip-types",
          "--disable-warning=ExperimentalWarning",
        ],
      });
      let answer: string | undefined;
      child.on("message", (kind) => {
        answer = String(kind);
      });
      await once(child, "exit");
      return answer;
    }
  },
);

async function until(met: () => boolean): Promise<void> {
  while (!met()) await new Promise((resolve) => setTimeout(resolve, 20));
}
