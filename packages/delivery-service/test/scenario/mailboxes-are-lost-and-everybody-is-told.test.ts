import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { RedisClient } from "../../src/adapters/redis-client.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";
import { type LocalRedis, startLocalRedis } from "../../src/local-engines/index.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { call, registerMany, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe.skipIf(inject("cluster") === undefined)(
  "when Redis has lost its mailboxes",
  { timeout: 30_000 },
  () => {
    let local: LocalRedis;
    let redis: RedisClient;
    let service: TestService;
    beforeEach(async () => {
      local = await startLocalRedis();
      redis = await RedisClient.open({ url: local.url });
      const mailboxes = new RedisMailboxStore(redis);
      service = await startTestService({ stores: (stores) => ({ ...stores, mailboxes }) });
    });
    afterEach(async () => {
      await service.stop();
      await redis.close();
      await local.dispose();
    });

    async function loseEverything(): Promise<void> {
      await local.kill();
      local.loseDisk();
      await local.start();
    }

    const hello = async (device: TestDevice) => {
      const socket = await TestSocket.open(service.port);
      return { socket, reply: await socket.request({ kind: "hello", versions: [1], auth: device.auth() }) };
    };

    it("every connection ends with the hint to come back, and Hello then names another store", async () => {
      const bob = await TestDevice.register(service.base);
      const first = await hello(bob);
      const sender = await TestSocket.anonymous(service.port);
      const kept = { kind: "submitSealed", ...sealedTo([bob], random(100)) } as const;
      expect(await sender.request(kept)).toMatchObject({ kind: "submitAccepted" });
      await first.socket.envelopes(1);
      await loseEverything();
      const ends = await Promise.all([first.socket.closed, sender.closed]);
      expect(ends).toEqual([
        { code: 1013, reason: "service/mailboxes-lost" },
        { code: 1013, reason: "service/mailboxes-lost" },
      ]);
      expect(first.socket.pushed.at(-1)).toMatchObject({ kind: "resumeHint" });
      const second = await hello(bob);
      expect(second.reply).toMatchObject({ kind: "helloReply", lastEnvelopeId: 0 });
      expect(second.reply).not.toMatchObject({ storeId: (first.reply as { storeId: Uint8Array }).storeId });
      const info = await call(service.base, "info", {});
      expect(second.reply).toMatchObject({ storeId: info.body["storeId"] });
      // What was lost is sent again and is new: nobody remembers it.
      const again = await TestSocket.anonymous(service.port);
      expect(await again.request(kept)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: false });
      expect((await second.socket.envelopes(1))[0]).toMatchObject({ envelopeId: 1 });
    });

    it("a submit to devices that did not come back yet opens their mailboxes, and not those of removed ones", async () => {
      const members = await registerMany(service.base, 12);
      const removed = members[11]!;
      await loseEverything();
      await until(async () => (await redis.call("PING").catch(() => undefined)) !== undefined);
      expect(await call(service.base, "deleteAccount", { headers: removed.headers() })).toMatchObject({
        status: 204,
      });
      const sender = await TestSocket.anonymous(service.port);
      const toAll = { kind: "submitSealed", ...sealedTo(members, random(100)) } as const;
      expect(await sender.request(toAll)).toMatchObject({ kind: "submitMismatch" });
      const rest = members.slice(0, 11);
      expect(await sender.request({ kind: "submitSealed", ...sealedTo(rest, random(100)) })).toMatchObject({
        kind: "submitAccepted",
        repeatedSubmit: false,
      });
      for (const member of rest) {
        const { socket } = await hello(member);
        expect(await socket.envelopes(1)).toHaveLength(1);
        await socket.close();
      }
      expect(await (await fetch(`${service.base}/metrics`)).text()).toContain(
        'murmuration_mailboxes_opened_again_total{label=""} 11',
      );
    });

    it("while it is only away, submits are to be tried again, everything else goes on, and nothing is lost", async () => {
      const bob = await TestDevice.register(service.base);
      const sender = await TestSocket.anonymous(service.port);
      const submit = { kind: "submitSealed", ...sealedTo([bob], random(100)) } as const;
      expect(await sender.request(submit)).toMatchObject({ kind: "submitAccepted" });
      await local.kill();
      const startedAt = performance.now();
      expect(await sender.request({ ...submit, ...sealedTo([bob], random(100)) })).toMatchObject({
        kind: "rejection",
        code: "service/overloaded",
      });
      expect(performance.now() - startedAt).toBeLessThan(1_000);
      // An anonymous connection, over which groups are read and written, needs no mailbox.
      await (await TestSocket.anonymous(service.port)).close();
      expect((await fetch(`${service.base}/metrics`)).status).toBe(200);
      await local.start();
      await until(async () => (await sender.request(submit)).kind === "submitAccepted");
      const { socket } = await hello(bob);
      expect(await socket.envelopes(1)).toHaveLength(1);
      expect(sender.pushed).toEqual([]);
    });
  },
);

async function until(met: () => Promise<boolean>): Promise<void> {
  const end = performance.now() + 20_000;
  while (!(await met())) {
    if (performance.now() > end) throw new Error("it did not come about");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
