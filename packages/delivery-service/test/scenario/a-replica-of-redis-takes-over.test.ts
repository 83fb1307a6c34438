import { envelopeId, type StoreId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { openSilentRelay, type SilentRelay } from "../support/silent-relay.ts";
import { sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const addressOf = ({ url }: LocalRedis) => ({ host: "127.0.0.1", port: Number(new URL(url).port) });
const LOST = { code: 1013, reason: "service/mailboxes-lost" };

// Redis answers a write before its replica has it. A replica that takes its place may lack what senders saw accepted, and
// gives the numbers of the envelopes that it lacks to others.
describe.skipIf(inject("cluster") === undefined)(
  "a Redis with a replica that follows it late",
  { timeout: 60_000 },
  () => {
    let first: LocalRedis;
    let second: LocalRedis;
    /** Over which the replica follows. */
    let link: SilentRelay;
    /** The address by which the node knows whichever is in charge. */
    let address: SilentRelay;
    /** For an operator: one connection to each. */
    let operator: Record<"first" | "second", RedisClient>;
    let redis: RedisClient;
    let service: TestService;
    beforeEach(async () => {
      [first, second] = await Promise.all([
        startLocalRedis({ "repl-diskless-sync-delay": "0" }),
        startLocalRedis(),
      ]);
      link = await openSilentRelay(addressOf(first));
      address = await openSilentRelay(addressOf(first));
      operator = {
        first: await RedisClient.open({ url: first.url }),
        second: await RedisClient.open({ url: second.url }),
      };
      redis = await RedisClient.open({ url: `redis://127.0.0.1:${address.port}` });
      const mailboxes = new RedisMailboxStore(redis);
      service = await startTestService({ stores: (stores) => ({ ...stores, mailboxes }) });
      await follow();
    });
    afterEach(async () => {
      await service.stop();
      await Promise.all([redis, operator.first, operator.second].map((client) => client.close()));
      await Promise.all([link.dispose(), address.dispose()]);
      await Promise.all([first.dispose(), second.dispose()]);
    });

    const follow = async () => {
      await operator.second.call("REPLICAOF", "127.0.0.1", link.port);
      const has = async () => String(await operator.second.call("INFO"));
      await expect.poll(has, { timeout: 20_000 }).toContain("master_link_status:up");
      // What it got at first is on its disk when its file was written anew.
      await expect
        .poll(has, { timeout: 20_000 })
        .toMatch(/aof_rewrite_in_progress:0\r\naof_rewrite_scheduled:0/);
      await expect.poll(inStep).toBe(1);
    };
    /** How many replicas have all that was written until now. */
    const inStep = async () => {
      // Redis waits for what the connection itself has written, and with it for all that was written before.
      await operator.first.call("SET", "written", "last");
      return Number(await operator.first.call("WAIT", 1, 1_000));
    };

    /** The first one is lost for ever, and what it had not told the second. */
    const promote = async () => {
      await first.kill();
      await operator.second.call("REPLICAOF", "NO", "ONE");
      address.leadTo(addressOf(second));
    };

    const hello = async (device: TestDevice) => {
      const socket = await TestSocket.open(service.port);
      const reply = await socket.request({ kind: "hello", versions: [1], auth: device.auth() });
      if (reply.kind !== "helloReply") throw new Error(reply.kind);
      return { socket, reply };
    };
    /** Once the node has its Redis again. */
    const helloAgain = async (device: TestDevice) => {
      await until(async () => {
        const { socket } = await hello(device).catch(() => ({ socket: undefined }));
        await socket?.close();
        return socket !== undefined;
      });
      return hello(device);
    };
    const submitTo = (device: TestDevice) =>
      ({ kind: "submitSealed", ...sealedTo([device], random(100)) }) as const;
    const until = (met: () => Promise<boolean>) => expect.poll(met, { timeout: 20_000 }).toBe(true);

    it("is lost: devices are told, get what the replica has, and what it lacks is new when it is sent again", async () => {
      const bob = await TestDevice.register(service.base);
      const before = await hello(bob);
      const sender = await TestSocket.anonymous(service.port);
      const [done, kept, lost] = [submitTo(bob), submitTo(bob), submitTo(bob)];
      for (const submit of [done, kept]) await sender.request(submit);
      await before.socket.envelopes(2);
      await before.socket.request({ kind: "acknowledge", throughEnvelopeId: envelopeId(1) });
      await expect.poll(inStep).toBe(1);
      link.silence();
      expect(await sender.request(lost)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: false });
      await before.socket.envelopes(3);
      await promote();
      expect(await Promise.all([before.socket.closed, sender.closed])).toEqual([LOST, LOST]);

      const after = await hello(bob);
      expect(after.reply.storeId).not.toEqual(before.reply.storeId);
      expect(after.reply.lastEnvelopeId).toBe(2);
      expect(await after.socket.envelopes(1)).toMatchObject([{ envelopeId: 2 }]);
      const again = await TestSocket.anonymous(service.port);
      expect(await again.request(kept)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: true });
      expect(await again.request(lost)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: false });
      expect(await after.socket.envelopes(2)).toMatchObject([{ envelopeId: 2 }, { envelopeId: 3 }]);
      // It is one store from then on, also when it is restarted.
      await second.kill();
      await second.start();
      expect((await helloAgain(bob)).reply.storeId).toEqual(after.reply.storeId);
    });

    it("is lost: an acknowledgement of before deletes nothing of what has its number now", async () => {
      // A node that is connected to the replica already: nothing tells it of the change but what it asks.
      const client = await RedisClient.open({ url: second.url });
      const store = new RedisMailboxStore(client);
      const told: StoreId[] = [];
      store.onLost((id) => told.push(id));
      const known = await store.storeId();
      const bob = await TestDevice.register(service.base);
      const sender = await TestSocket.anonymous(service.port);
      await expect.poll(inStep).toBe(1);
      link.silence();
      await sender.request(submitTo(bob));
      await promote();
      await sender.closed;
      const again = await TestSocket.anonymous(service.port);
      await again.request(submitTo(bob));
      await expect(store.acknowledge(bob.local.address, envelopeId(1))).rejects.toMatchObject({
        code: "store/mailboxes-lost",
      });
      expect(told).toEqual([await store.storeId()]);
      expect(told).not.toEqual([known]);
      const { socket } = await hello(bob);
      expect(await socket.envelopes(1)).toHaveLength(1);
      await client.close();
    });

    it("is lost: a replica that is restarted as a master is another store once its id is deleted, and not before", async () => {
      const bob = await TestDevice.register(service.base);
      const before = await hello(bob);
      await expect.poll(inStep).toBe(1);
      await first.kill();
      await second.kill();
      await second.start();
      address.leadTo(addressOf(second));
      const between = await helloAgain(bob);
      expect(between.reply.storeId).toEqual(before.reply.storeId);
      await operator.second.call("DEL", "murmuration:store-id");
      expect(await between.socket.closed).toEqual(LOST);
      expect((await hello(bob)).reply.storeId).not.toEqual(before.reply.storeId);
    });

    it("is lost: a replica that lacks something and is restarted as a master is found out by the node that knew more", async () => {
      const bob = await TestDevice.register(service.base);
      const before = await hello(bob);
      await expect.poll(inStep).toBe(1);
      const markOf = async () => {
        const pong = await before.socket.request({ kind: "ping" });
        return pong.kind === "pong" ? pong.storeMark : undefined;
      };
      await until(async () => (await markOf()) !== undefined);
      link.silence();
      const sender = await TestSocket.anonymous(service.port);
      const lost = submitTo(bob);
      expect(await sender.request(lost)).toMatchObject({ kind: "submitAccepted" });
      await before.socket.envelopes(1);
      // The second one was made after what is lost.
      for (const _ of [1, 2]) await until(async () => (await markOf()) !== undefined);
      await first.kill();
      await second.kill();
      await second.start();
      address.leadTo(addressOf(second));
      expect(await before.socket.closed).toEqual(LOST);
      const after = await helloAgain(bob);
      expect(after.reply.storeId).not.toEqual(before.reply.storeId);
      const again = await TestSocket.anonymous(service.port);
      expect(await again.request(lost)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: false });
      // Once: it is that store from now on.
      await new Promise((resolve) => setTimeout(resolve, 5_000));
      expect((await hello(bob)).reply.storeId).toEqual(after.reply.storeId);
    });

    it("hands over: no node keeps a connection to the one that takes no writes", async () => {
      const bob = await TestDevice.register(service.base);
      const sender = await TestSocket.anonymous(service.port);
      // As where an address changes too early: it leads to a replica that is none in charge yet.
      address.leadTo(addressOf(second));
      address.cut();
      await until(async () => (await redis.call("PING").catch(() => undefined)) !== undefined);
      const submit = submitTo(bob);
      expect(await sender.request(submit)).toMatchObject({ kind: "rejection", code: "service/overloaded" });
      // Connections that are there stay; new ones go to the one in charge.
      address.leadTo(addressOf(first));
      await until(async () => (await sender.request(submit)).kind === "submitAccepted");
      const { socket } = await hello(bob);
      expect(await socket.envelopes(1)).toHaveLength(1);
    });

    it("that takes no writes without it refuses them whole, and takes them when it is back", async () => {
      const bob = await TestDevice.register(service.base);
      const sender = await TestSocket.anonymous(service.port);
      await operator.first.call("CONFIG", "SET", "min-replicas-max-lag", 1, "min-replicas-to-write", 1);
      link.silence();
      const last = submitTo(bob);
      await until(
        async () => (await sender.request({ ...last, ...sealedTo([bob], random(9)) })).kind === "rejection",
      );
      const refused = submitTo(bob);
      expect(await sender.request(refused)).toMatchObject({ code: "service/overloaded" });
      link.restore();
      link.cut();
      await until(async () => {
        const answer = await sender.request(refused);
        if (answer.kind === "submitAccepted") expect(answer.repeatedSubmit).toBe(false);
        return answer.kind === "submitAccepted";
      });
    });
  },
);
