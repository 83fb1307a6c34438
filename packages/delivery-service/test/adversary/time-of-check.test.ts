import { once } from "node:events";
import { connect } from "node:net";
import { type DeviceAddress, formatId, groupId } from "@murmuration/base";
import { encodeMessage, PROTOBUF_CONTENT_TYPE, profileUpdate } from "@murmuration/wire";
import { afterEach, describe, expect, it } from "vitest";
import { openMemoryStores } from "../../src/adapters/memory-stores.ts";
import { dayOf } from "../../src/core/days.ts";
import { planRetention } from "../../src/core/retention.ts";
import type { ServiceContext } from "../../src/service/context.ts";
import { RetentionRunner } from "../../src/service/retention-runner.ts";
import { query } from "../support/database.ts";
import { createGroup } from "../support/group-access.ts";
import { random } from "../support/random.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";
import { call, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const DAY_MS = 86_400_000;

describe("what was true when a request began need not be true when it takes effect", () => {
  let service: TestService | undefined;
  afterEach(async () => {
    await service?.stop();
    service = undefined;
  });

  it("a device that is removed while it holds back its body changes nothing with it", async () => {
    service = await startTestService();
    const { base, port, databasePath } = service;
    const phone = await TestDevice.register(base);
    const tablet = await phone.link(base);
    const keyHash = () =>
      query(databasePath, "SELECT hex(access_key_hash) AS hash FROM accounts")[0]!["hash"];
    const before = keyHash();
    const body = encodeMessage(profileUpdate, { accessKey: random(16), profile: random(100) });
    const held = connect(port, "127.0.0.1");
    const answer = once(held, "data");
    held.write(
      `PUT /v1/profile HTTP/1.1\r\nHost: x\r\nAuthorization: ${tablet.headers()["authorization"]}\r\n` +
        `Content-Type: ${PROTOBUF_CONTENT_TYPE}\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    held.write(body.subarray(0, 10));
    await new Promise((resolve) => setTimeout(resolve, 100));
    await phone.unlink(base, tablet);
    held.write(body.subarray(10));
    expect(String((await answer)[0])).toMatch(/^HTTP\/1.1 401 /);
    held.destroy();
    expect(keyHash()).toBe(before);
  });

  it("a registration that is sent again while the first one is being answered is answered like it", async () => {
    service = await startTestService();
    const device = await TestDevice.generate();
    const ask = () => call(service!.base, "register", { body: device.registration() });
    const answers = await Promise.all(Array.from({ length: 8 }, ask));
    expect(answers.map(({ status }) => status)).toEqual(Array(8).fill(200));
    const other = await TestDevice.generate();
    const taken = { ...other.registration(), accountId: device.accountId };
    const refused = await call(service.base, "register", { body: taken });
    expect(refused.rejection?.code).toBe("register/account-exists");
  });

  it("a device that comes back while retention removes idle ones keeps its mailbox and its keys", async () => {
    const clock = movableClock(Date.now());
    const stores = openMemoryStores();
    const device = await TestDevice.generate();
    const address: DeviceAddress = { accountId: device.accountId, deviceId: device.deviceId };
    await stores.mailboxes.open(address, 0);
    const { accountIdentityKey, deviceList } = device.local;
    await stores.accounts.create({
      accountId: device.accountId,
      accountIdentityKey,
      accessKeyHash: random(32),
      deviceList: { version: 1, bytes: deviceList },
      device: { ...device.newDevice(), lastSeenDay: dayOf(clock.now()) - 200, hasKeys: true },
    });
    let asked = 0;
    const accounts = Object.assign(Object.create(stores.accounts), {
      idleDevices: async (day: number, limit: number) => {
        const idle = await stores.accounts.idleDevices(day, limit);
        if (asked++ === 0) await stores.accounts.touch(address, dayOf(clock.now()));
        return idle;
      },
    }) as typeof stores.accounts;
    const context = {
      stores: { ...stores, accounts },
      clock,
      log: { info() {}, warn() {}, error() {} },
      metrics: { count() {}, observe() {}, gauge() {}, render: async () => "" },
    } as unknown as ServiceContext;
    await new RetentionRunner(context, () => {}).runOnce();
    expect(planRetention(clock.now()).some((job) => job.name === "idle-devices")).toBe(true);
    expect(asked).toBeGreaterThan(0);
    expect((await stores.accounts.load(device.accountId))?.devices).toHaveLength(1);
    expect(await stores.mailboxes.lastId(address)).toBe(0);
  });

  it("a group that is written to is not idle, and its id does not become anybody's", async () => {
    const clock = movableClock(Date.now() - 420 * DAY_MS);
    service = await startTestService({ clock });
    const [group, fence] = [groupId(random(16)), random(16)];
    await createGroup(service.base, group, fence, random(50));
    const bob = await TestDevice.register(service.base);
    const submit = async () => {
      const sender = await TestSocket.anonymous(service!.port);
      const body = { kind: "submitSealed" as const, ...sealedTo([bob]), fence: { groupId: group, fence } };
      const answer = await sender.request(body);
      await sender.close();
      return answer.kind;
    };
    clock.advance(170 * DAY_MS);
    expect(await submit()).toBe("submitAccepted");
    clock.advance(250 * DAY_MS);
    await call(service.base, "countKeys", { headers: bob.headers() });
    await service.runRetention();
    const kept = query(service.databasePath, "SELECT hex(group_id) AS id FROM group_records");
    expect(kept.map((row) => row["id"])).toEqual([Buffer.from(group).toString("hex").toUpperCase()]);
  });
});

describe("what a request says about who asks", () => {
  let service: TestService;
  afterEach(() => service.stop());

  it("a group request that also names a device is refused", async () => {
    service = await startTestService();
    const bob = await TestDevice.register(service.base);
    const encoded = (length: number) => Buffer.from(random(length)).toString("base64url");
    const access = { "murmuration-group-access": `${encoded(32)}.${encoded(64)}` };
    const parameters = { groupId: formatId(groupId(random(16))) };
    const read = async (headers: Record<string, string>) =>
      (await call(service.base, "readGroup", { parameters, headers })).rejection?.code;
    expect(await read({ ...access, ...bob.headers() })).toBe("auth/malformed");
    expect(await read(access)).toBe("group/challenge-used");
  });

  it("a device list whose new devices are described twice, or not all, is refused as such", async () => {
    service = await startTestService();
    const phone = await TestDevice.register(service.base);
    const [one, two] = [await TestDevice.generate(), await TestDevice.generate()];
    const { first, second, deviceList } = await phone.listTwoMore(one, two);
    const update = async (added: readonly object[]) =>
      (await call(service.base, "updateDevices", { headers: phone.headers(), body: { deviceList, added } }))
        .rejection?.code;
    expect(await update([first, first])).toBe("devices/list-mismatch");
    expect(await update([first])).toBe("devices/list-mismatch");
    expect(service.logged.filter((line) => line.includes("internal-error"))).toEqual([]);
    expect(await update([first, second])).toBeUndefined();
  });

  it("a device that uploads keys again and again is slowed down before they are verified", async () => {
    service = await startTestService();
    const bob = await TestDevice.register(service.base);
    const body = { uploadId: random(16), oneTimePreKeys: [], oneTimeKyberPreKeys: [] };
    const codes = [];
    for (let i = 0; i < 30; i++) {
      codes.push((await call(service.base, "uploadKeys", { headers: bob.headers(), body })).rejection?.code);
    }
    expect(codes.slice(0, 10)).toEqual(Array(10).fill(undefined));
    expect(codes.at(-1)).toBe("rate/limited");
  });
});
