import { randomInt } from "node:crypto";
import { accountId, blobId, formatId, groupId } from "@murmuration/base";
import { BLOB_CONTENT_TYPE, PROTOBUF_CONTENT_TYPE } from "@murmuration/wire";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { query } from "../support/database.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";
import { call, callRaw, TestDevice } from "../support/test-device.ts";

const protobuf = { "content-type": PROTOBUF_CONTENT_TYPE };

describe("bad requests are refused with a stable code and nothing is stored half", () => {
  let service: TestService;
  let bob: TestDevice;
  beforeAll(async () => {
    service = await startTestService();
    bob = await TestDevice.register(service.base, true);
  });
  afterAll(() => service.stop());

  const bobsPath = () => ({ accountId: formatId(bob.accountId) });
  const code = async (answer: ReturnType<typeof callRaw>) => (await answer).rejection?.code;

  it("unknown paths, other methods and malformed ids", async () => {
    const { base } = service;
    expect(await code(callRaw(base, "GET", "/v1/nothing"))).toBe("http/unknown-route");
    expect(await code(callRaw(base, "GET", "/v1/accounts/short/devices"))).toBe("http/unknown-route");
    expect(await code(callRaw(base, "PATCH", "/v1/keys"))).toBe("http/method-not-allowed");
    // 22 characters of base64url whose last one has bits beyond 16 bytes: not canonical.
    const path = `/v1/accounts/${"A".repeat(21)}B/devices`;
    expect(await code(callRaw(base, "GET", path, bob.headers()))).toBe("http/bad-path");
  });

  it("garbage, oversize and mistyped bodies", async () => {
    const { base } = service;
    const register = (headers: Record<string, string>, body: Uint8Array) =>
      code(callRaw(base, "POST", "/v1/accounts", headers, body));
    expect(await register(protobuf, random(500))).toMatch(/^wire\/(garbage|missing-field|invalid-field)$/);
    expect(await register(protobuf, new Uint8Array(0))).toBe("wire/missing-field");
    expect(await register(protobuf, new Uint8Array(600_000))).toBe("wire/too-large");
    expect(await register({ "content-type": "application/json" }, random(5))).toBe("http/bad-content-type");
  });

  it("missing, malformed and wrong authorisation, and two kinds at once", async () => {
    const { base } = service;
    const keys = (headers: Record<string, string>) => code(callRaw(base, "GET", "/v1/keys", headers));
    expect(await keys({})).toBe("auth/missing");
    expect(await keys({ authorization: "Bearer nonsense" })).toBe("auth/malformed");
    const stranger = await TestDevice.generate();
    expect(await keys(stranger.headers())).toBe("auth/invalid");
    const parameters = bobsPath();
    const list = async (headers: Record<string, string>) =>
      (await call(base, "deviceList", { parameters, headers })).rejection?.code;
    expect(await list({})).toBe("auth/missing");
    expect(await list(bob.accessHeaders(random(16)))).toBe("auth/access-denied");
    expect(await list({ ...bob.headers(), ...bob.accessHeaders() })).toBe("auth/malformed");
    const unknown = { accountId: formatId(accountId(random(16))) };
    const answer = await call(base, "deviceList", { parameters: unknown, headers: bob.headers() });
    expect(answer.rejection?.code).toBe("accounts/unknown");
  });

  it("a registration of a taken id, with a foreign list, or with forged keys", async () => {
    const register = async (body: object) => (await call(service.base, "register", { body })).rejection?.code;
    const rows = () => query(service.databasePath, "SELECT count(*) AS n FROM mailboxes")[0]!["n"];
    const before = rows();
    const fresh = (await TestDevice.generate(true)).registration();
    const taken = { ...(await TestDevice.generate()).registration(), accountId: bob.accountId };
    expect(await register(taken)).toBe("register/account-exists");
    const other = (await TestDevice.generate()).registration();
    expect(await register({ ...fresh, deviceList: other.deviceList })).toBe("device-list/wrong-account");
    expect(await register({ ...fresh, accountIdentityKey: other.accountIdentityKey })).toBe(
      "devices/list-mismatch",
    );
    const otherDevice = { ...fresh.device, identityKey: other.device.identityKey };
    expect(await register({ ...fresh, device: otherDevice })).toBe("devices/list-mismatch");
    const bent = new Uint8Array(fresh.deviceList);
    bent[bent.length - 1]! ^= 1;
    expect(await register({ ...fresh, deviceList: bent })).toBe("device-list/bad-signature");
    const forged = { ...fresh.preKeys, signedPreKey: other.preKeys.signedPreKey };
    expect(await register({ ...fresh, preKeys: forged })).toBe("keys/bad-signature");
    const { signedPreKey: _, ...without } = fresh.preKeys;
    expect(await register({ ...fresh, preKeys: without })).toBe("keys/incomplete");
    expect(rows()).toBe(before);
    expect(await register(fresh)).toBeUndefined();
    // The answer was lost and the client asks again.
    expect(await register(fresh)).toBeUndefined();
  });

  it("an older device list is refused, and so is one that another account signed", async () => {
    const phone = await TestDevice.register(service.base);
    const first = phone.local.deviceList;
    await phone.link(service.base);
    const update = async (deviceList: Uint8Array) => {
      const body = { deviceList, added: [] };
      return (await call(service.base, "updateDevices", { headers: phone.headers(), body })).rejection?.code;
    };
    expect(await update(first)).toBe("device-list/rolled-back");
    expect(await update(bob.local.deviceList)).toBe("device-list/wrong-account");
    const parameters = { accountId: formatId(phone.accountId) };
    const stored = await call(service.base, "deviceList", { parameters, headers: phone.headers() });
    expect(stored.body["deviceList"]).not.toEqual(first);
  });

  it("prekeys that are forged, too many, or repeated", async () => {
    const upload = async (body: object) =>
      await call(service.base, "uploadKeys", { headers: bob.headers(), body });
    const foreign = (await TestDevice.generate(true)).registration().preKeys;
    expect((await upload(foreign)).rejection?.code).toBe("keys/bad-signature");
    const own = bob.registration().preKeys;
    const count = async () => (await call(service.base, "countKeys", { headers: bob.headers() })).body;
    const before = await count();
    expect((await upload(own)).body).toEqual(before);
    // One-time EC keys are not signed, so foreign ones will do to fill the store beyond its 200.
    const more = (from: number) => ({
      uploadId: random(16),
      oneTimePreKeys: foreign.oneTimePreKeys.map((key, index) => ({ ...key, keyId: from + index })),
      oneTimeKyberPreKeys: [],
    });
    expect((await upload(more(5_000))).status).toBe(200);
    expect((await upload(more(6_000))).rejection?.code).toBe("keys/too-many");
  });

  it("blobs: taken ids, unannounced lengths, ranges outside, unknown ids", async () => {
    const { base } = service;
    const path = `/v1/blobs/${formatId(blobId(random(16)))}`;
    const headers = { ...bob.headers(), "content-type": BLOB_CONTENT_TYPE };
    const bytes = random(100_000);
    expect((await callRaw(base, "PUT", path, headers, bytes)).status).toBe(204);
    expect((await callRaw(base, "PUT", path, headers, bytes)).status).toBe(204);
    expect(await code(callRaw(base, "PUT", path, headers, random(10)))).toBe("blob/exists");
    expect(await code(callRaw(base, "PUT", path, {}, random(10)))).toBe("auth/missing");
    const from = randomInt(1, 50_000);
    const part = await callRaw(base, "GET", path, { range: `bytes=${from}-${from + 99}` });
    expect(part.status).toBe(206);
    expect(part.headers.get("content-range")).toBe(`bytes ${from}-${from + 99}/100000`);
    expect(part.raw).toEqual(bytes.slice(from, from + 100));
    expect((await callRaw(base, "GET", path)).raw).toEqual(bytes);
    for (const range of ["bytes=100000-", "bytes=5-2", "bytes=0-1,3-4", "lines=1-2", "bytes=-"]) {
      expect(await code(callRaw(base, "GET", path, { range }))).toBe("blob/bad-range");
    }
    const unknown = `/v1/blobs/${formatId(blobId(random(16)))}`;
    expect(await code(callRaw(base, "GET", unknown))).toBe("blob/unknown");
  });

  it("group access without a challenge of ours", async () => {
    const path = `/v1/groups/${formatId(groupId(random(16)))}`;
    const header = (text: string) => ({ "murmuration-group-access": text });
    const encoded = (length: number) => Buffer.from(random(length)).toString("base64url");
    expect(await code(callRaw(service.base, "GET", path))).toBe("auth/missing");
    expect(await code(callRaw(service.base, "GET", path, header("x")))).toBe("auth/malformed");
    const invented = header(`${encoded(32)}.${encoded(64)}`);
    expect(await code(callRaw(service.base, "GET", path, invented))).toBe("group/challenge-used");
  });

  it("an attacker who asks for bundles again and again cannot empty the one-time keys", async () => {
    const victim = await TestDevice.register(service.base, true);
    const parameters = { accountId: formatId(victim.accountId) };
    for (let i = 0; i < 30; i++) {
      const answer = await call(service.base, "bundles", {
        parameters,
        headers: bob.headers(),
        body: { deviceIds: [] },
      });
      expect(answer.status).toBe(200);
    }
    const left = await call(service.base, "countKeys", { headers: victim.headers() });
    expect(left.body).toEqual({ oneTimePreKeys: 95, oneTimeKyberPreKeys: 95 });
  });
});

describe("the door", () => {
  it("an invite code lets in who has it and nobody else", async () => {
    const codes = [new TextEncoder().encode("a-code-of-some-length")];
    const service = await startTestService({ config: { registration: { kind: "invite", codes } } });
    try {
      const request = (await TestDevice.generate()).registration();
      const register = async (inviteCode?: Uint8Array) => {
        const body = inviteCode === undefined ? request : { ...request, inviteCode };
        return (await call(service.base, "register", { body })).rejection?.code;
      };
      expect(await register()).toBe("register/not-invited");
      expect(await register(random(21))).toBe("register/not-invited");
      expect(await register(codes[0])).toBeUndefined();
    } finally {
      await service.stop();
    }
  });

  it("rates are limited per address, with a time to come back", async () => {
    const rates = { registrationsPerAddress: { burst: 2, perMinute: 1 } };
    const service = await startTestService({ limits: { rates: { ...unhurried.rates, ...rates } } });
    try {
      await TestDevice.register(service.base);
      await TestDevice.register(service.base);
      const body = (await TestDevice.generate()).registration();
      const answer = await call(service.base, "register", { body });
      expect(answer.status).toBe(429);
      expect(answer.rejection).toMatchObject({ code: "rate/limited", action: "retry-later" });
      expect(answer.rejection!.retryAfterMs).toBeGreaterThan(1_000);
    } finally {
      await service.stop();
    }
  });
});
