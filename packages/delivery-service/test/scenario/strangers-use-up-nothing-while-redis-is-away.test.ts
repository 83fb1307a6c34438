import { type Bytes, formatId, toHex } from "@murmuration/base";
import type { BundleReply, KeyPackageClaimReply } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, inject, it } from "vitest";
import { type LocalRedis, type Scratch, scratch, startLocalRedis } from "../../src/local-engines/index.ts";
import { Member } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { call, TestDevice } from "../support/test-device.ts";

const urls = inject("cluster");

describe.skipIf(urls === undefined)("while Redis is away", { timeout: 60_000 }, () => {
  let redis: LocalRedis;
  let own: Scratch;
  let service: TestService;
  beforeEach(async () => {
    redis = await startLocalRedis();
    own = scratch({ ...urls!, redis: redis.url }, "test");
    service = await startTestService({ config: { engines: own.engines } });
  });
  afterEach(async () => {
    await service.stop();
    // What a test that failed left dead has keys to be dropped.
    await redis.kill();
    await redis.start();
    await own.drop();
    await redis.dispose();
  });

  const register = async () => {
    const device = await TestDevice.generate();
    const { rejection } = await call(service.base, "register", { body: device.registration() });
    return rejection;
  };
  const decisions = async () => {
    const text = await (await fetch(`${service.base}/metrics`)).text();
    const rows = text.matchAll(/^murmuration_limits_without_redis_total\{label="(\w+)"\} (\d+)$/gm);
    return Object.fromEntries([...rows].map(([, choice, count]) => [choice, Number(count)]));
  };

  it("nobody is registered, and is told when to ask again; it is counted, and ends with the outage", async () => {
    expect(await register()).toBeUndefined();
    expect(await decisions()).toEqual({});
    await redis.kill();
    expect(await register()).toMatchObject({ code: "rate/limited", retryAfterMs: 1_000 });
    expect(await decisions()).toEqual({ closed: 1 });
    await redis.start();
    await expect.poll(register, { timeout: 20_000 }).toBeUndefined();
  });

  it("who claims KeyPackages gets the last resort only, and those for once are all there afterwards", async () => {
    const [alice, bob] = [await Member.register(service), await TestDevice.register(service.base)];
    const lastResort = alice.keyPackageMessage(true);
    const forOnce = [alice.keyPackageMessage(), alice.keyPackageMessage()];
    await call(service.base, "uploadKeyPackages", {
      headers: alice.device.headers(),
      body: { uploadId: random(16), keyPackages: forOnce, lastResort },
    });
    const claim = async () => {
      const { body } = await call(service.base, "claimKeyPackages", {
        headers: bob.headers(),
        body: { accountIds: [alice.device.accountId] },
      });
      return toHex((body as unknown as KeyPackageClaimReply).accounts[0]!.keyPackages[0]!.keyPackage);
    };
    await redis.kill();
    expect([await claim(), await claim(), await claim()]).toEqual(Array(3).fill(toHex(lastResort)));
    // The allowance to ask at all is shared, the one for keys that are there once is closed.
    expect(await decisions()).toEqual({ share: 3, closed: 3 });
    await redis.start();
    const given: string[] = [];
    await expect
      .poll(
        async () => {
          const next = await claim();
          if (next !== toHex(lastResort)) given.push(next);
          return given.length;
        },
        { timeout: 20_000 },
      )
      .toBe(2);
    expect(given.sort()).toEqual(forOnce.map(toHex).sort());
  });

  it("who asks for prekeys gets the last resort only, and no one-time prekey is gone afterwards", async () => {
    const [alice, bob] = [
      await TestDevice.register(service.base, true),
      await TestDevice.register(service.base),
    ];
    const counts = async () => (await call(service.base, "countKeys", { headers: alice.headers() })).body;
    const stock = await counts();
    expect(stock).toMatchObject({ oneTimePreKeys: 100, oneTimeKyberPreKeys: 100 });
    const bundle = async () => {
      const { body } = await call(service.base, "bundles", {
        parameters: { accountId: formatId(alice.accountId) },
        headers: bob.headers(),
        body: { deviceIds: [] },
      });
      return (body as unknown as BundleReply).bundles[0]!;
    };
    await redis.kill();
    const during: Bytes[] = [];
    for (let i = 0; i < 3; i++) {
      const { oneTimePreKey, kyberPreKey } = await bundle();
      expect(oneTimePreKey).toBeUndefined();
      during.push(kyberPreKey.publicKey);
    }
    expect(new Set(during.map(toHex)).size).toBe(1);
    expect(await counts()).toEqual(stock);
    await redis.start();
    await expect.poll(async () => (await bundle()).oneTimePreKey, { timeout: 20_000 }).toBeDefined();
  });
});
