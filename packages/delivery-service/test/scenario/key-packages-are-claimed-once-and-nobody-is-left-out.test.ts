import { toHex } from "@murmuration/base";
import type { KeyPackageClaimReply } from "@murmuration/wire";
import { limits } from "@murmuration/wire";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Member, messageOf } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";
import { call, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("KeyPackages", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  const upload = (
    member: Member,
    body: { keyPackages?: unknown[]; lastResort?: unknown; uploadId?: unknown },
  ) =>
    call(service.base, "uploadKeyPackages", {
      headers: member.device.headers(),
      body: { uploadId: random(16), keyPackages: [], ...body },
    });
  const claim = async (by: TestDevice, of: readonly TestDevice[]) => {
    const accountIds = of.map((device) => device.accountId);
    const answer = await call(service.base, "claimKeyPackages", {
      headers: by.headers(),
      body: { accountIds },
    });
    return { ...answer, reply: answer.body as unknown as KeyPackageClaimReply };
  };

  it("are uploaded once, counted, and replaced where they are a last resort", async () => {
    const alice = await Member.register(service);
    const body = {
      uploadId: random(16),
      keyPackages: [alice.keyPackageMessage(), alice.keyPackageMessage()],
      lastResort: alice.keyPackageMessage(true),
    };
    expect((await upload(alice, body)).body).toEqual({ keyPackages: 2, lastResort: true });
    expect((await upload(alice, body)).body).toEqual({ keyPackages: 2, lastResort: true });
    const counted = await call(service.base, "countKeyPackages", { headers: alice.device.headers() });
    expect(counted.body).toEqual({ keyPackages: 2, lastResort: true });
    expect((await call(service.base, "countKeyPackages")).rejection?.code).toBe("auth/missing");
  });

  it("are handed out to one of two who claim at the same time", async () => {
    const [alice, bob] = [await Member.register(service), await TestDevice.register(service.base)];
    const messages = Array.from({ length: 8 }, () => alice.keyPackageMessage());
    await upload(alice, { keyPackages: messages });
    const claims = await Promise.all(Array.from({ length: 8 }, () => claim(bob, [alice.device])));
    const given = claims.map(({ reply }) => toHex(reply.accounts[0]!.keyPackages[0]!.keyPackage));
    expect([...new Set(given)].sort()).toEqual(messages.map(toHex).sort());
    expect((await claim(bob, [alice.device])).reply.accounts[0]).toMatchObject({
      keyPackages: [],
      devicesWithout: [1],
    });
  });

  it("name every device of each account: given, without, or of no account that is known", async () => {
    const alice = await Member.register(service);
    const second = await alice.device.link(service.base);
    const [bob, stranger] = [await TestDevice.register(service.base), await TestDevice.generate()];
    await upload(alice, { keyPackages: [alice.keyPackageMessage()] });
    const { reply } = await claim(bob, [alice.device, bob, stranger]);
    expect(reply.accounts).toMatchObject([
      { unknownAccount: false, keyPackages: [{ deviceId: 1 }], devicesWithout: [second.deviceId] },
      { unknownAccount: false, keyPackages: [], devicesWithout: [1] },
      { unknownAccount: true, keyPackages: [], devicesWithout: [] },
    ]);
    expect((await claim(bob, [bob, bob])).rejection?.code).toBe("wire/invalid-field");
  });

  it("are not emptied by one caller, which gets the last resort after a while", async () => {
    const hurried = await startTestService({
      limits: { rates: { ...unhurried.rates, claimsPerPair: limits.rates.claimsPerPair } },
    });
    const [alice, mallory, bob] = [
      await Member.register(hurried),
      await TestDevice.register(hurried.base),
      await TestDevice.register(hurried.base),
    ];
    const lastResort = alice.keyPackageMessage(true);
    const body = {
      uploadId: random(16),
      keyPackages: Array.from({ length: 15 }, () => alice.keyPackageMessage()),
      lastResort,
    };
    await call(hurried.base, "uploadKeyPackages", { headers: alice.device.headers(), body });
    const claimBy = async (by: TestDevice) => {
      const accountIds = [alice.device.accountId];
      const { body: reply } = await call(hurried.base, "claimKeyPackages", {
        headers: by.headers(),
        body: { accountIds },
      });
      return toHex((reply as unknown as KeyPackageClaimReply).accounts[0]!.keyPackages[0]!.keyPackage);
    };
    const given: string[] = [];
    for (let i = 0; i < 14; i++) given.push(await claimBy(mallory));
    expect(new Set(given.slice(0, 10)).size).toBe(10);
    expect(new Set(given.slice(10))).toEqual(new Set([toHex(lastResort)]));
    expect(await claimBy(bob)).not.toBe(toHex(lastResort));
    await hurried.stop();
  });

  it("are asked for when they run low: at the moment, and of a device that connects", async () => {
    const [alice, bob] = [await Member.register(service), await TestDevice.register(service.base)];
    await upload(alice, {
      keyPackages: Array.from({ length: limits.keyPackagesLow }, () => alice.keyPackageMessage()),
    });
    const connected = await TestSocket.device(service.port, alice.device);
    expect(connected.pushed.filter((body) => body.kind === "keyPackagesLow")).toEqual([]);
    await claim(bob, [alice.device]);
    expect(await connected.next("keyPackagesLow")).toMatchObject({ keyPackages: limits.keyPackagesLow - 1 });
    await connected.close();
    const again = await TestSocket.device(service.port, alice.device);
    expect(await again.next("keyPackagesLow")).toMatchObject({ keyPackages: limits.keyPackagesLow - 1 });
  });

  it("go with their device", async () => {
    const alice = await Member.register(service);
    const second = await alice.device.link(service.base);
    const linked = await new Member(second).at(service);
    await upload(linked, { keyPackages: [linked.keyPackageMessage()] });
    await alice.device.unlink(service.base, second);
    const { reply } = await claim(alice.device, [alice.device]);
    expect(reply.accounts[0]).toMatchObject({ keyPackages: [], devicesWithout: [1] });
  });

  it("are refused when they are not the asking device's, not valid long enough, or not what they say", async () => {
    const [alice, mallory] = [await Member.register(service), await Member.register(service)];
    const damaged = alice.keyPackageMessage();
    damaged[damaged.length - 1]! ^= 1;
    const stolen = new Member(alice.device);
    Object.assign(stolen.identity, { signatureKeys: mallory.identity.signatureKeys });
    const twice = alice.keyPackageMessage();
    const refused = [
      await upload(mallory, { keyPackages: [alice.keyPackageMessage()] }),
      await upload(alice, { keyPackages: [stolen.keyPackageMessage()] }),
      await upload(alice, { keyPackages: [alice.keyPackageMessage(false, 0n)] }),
      await upload(alice, { keyPackages: [alice.keyPackageMessage(true)] }),
      await upload(alice, { lastResort: alice.keyPackageMessage() }),
      await upload(alice, { keyPackages: [damaged] }),
      await upload(alice, { keyPackages: [twice, twice] }),
      await upload(alice, { keyPackages: [random(200)] }),
      await upload(alice, {
        keyPackages: [messageOf(alice.keyPackage({ capabilities: foreignCapabilities }))],
      }),
    ];
    expect(refused.map((answer) => answer.rejection?.code)).toEqual(
      Array.from({ length: 9 }, () => "key-packages/bad-key-package"),
    );
    expect((await call(service.base, "countKeyPackages", { headers: alice.device.headers() })).body).toEqual({
      keyPackages: 0,
      lastResort: false,
    });
  });
});

/** Of a leaf that cannot be in a community. */
const foreignCapabilities = {
  versions: [1],
  cipherSuites: [1],
  extensions: [],
  proposals: [],
  credentials: [1],
};
