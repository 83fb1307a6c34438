import { existsSync, readFileSync } from "node:fs";
import { type Bytes, utf8 } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import {
  PushGatewayClient,
  type PushRegistration,
  sealWakeHandle,
  WAKE_HANDLE_BYTES,
} from "@murmuration/wire/push";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { certificateFile, startLocalWebPush } from "../../../push-gateway/test/support/local-services.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { query } from "../support/database.ts";
import { type GatewayProcess, startGatewayProcess } from "../support/gateway-process.ts";
import { type Haystack, type Needle, scan } from "../support/leak-scan.ts";
import { startTestService, type TestService, temporaryDirectory } from "../support/service.ts";
import { call, sealedTo } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const SECRET = "what-the-two-processes-share-0123";
const MESSAGES = 20;
const DAY_MS = 86_400_000;

describe("after real traffic the push gateway has seen no ciphertext, no group, no account", () => {
  const directory = temporaryDirectory();
  const database = `${directory.path}/push-gateway.sqlite`;
  const handles: Bytes[] = [];
  const registrations: PushRegistration[] = [];
  const needles: Needle[] = [];
  let webPush: Awaited<ReturnType<typeof startLocalWebPush>>;
  let gateway: GatewayProcess;
  let service: TestService;
  let members: Member[];

  beforeAll(async () => {
    webPush = await startLocalWebPush();
    const { hosts, privateKey, publicKey, subject } = webPush.config;
    gateway = await startGatewayProcess({
      DATA: directory.path,
      WAKE_SECRET: SECRET,
      CERTIFICATE_FILE: certificateFile,
      WINDOW_SECONDS: "1",
      SPREAD_MS: "100",
      WEB_PUSH_SUBJECT: subject,
      WEB_PUSH_PUBLIC_KEY: publicKey,
      WEB_PUSH_PRIVATE_KEY: privateKey,
      WEB_PUSH_HOSTS: hosts.join(","),
    });
    service = await startTestService({ config: { pushGateway: { url: gateway.base, secret: SECRET } } });
    members = [];
    for (let i = 0; i < 4; i++) members.push(await Member.register(service));
    const [owner, ...others] = members as [Member, ...Member[]];
    await startCommunity(service, members);

    // Everybody but the owner registers, leaves a handle for its mailbox and one for its leaf, and goes. The last one
    // wants to hear of mentions alone.
    const client = new PushGatewayClient(gateway.base);
    const { handleKey } = await client.info();
    const expiryDay = Math.floor(Date.now() / DAY_MS) + 30;
    for (const [index, member] of others.entries()) {
      const registration = await client.register({
        kind: "web-push",
        address: webPush.subscription(`subscription-${index}`),
      });
      registrations.push(registration);
      const seal = (mentionOnly: boolean) => {
        const handle = sealWakeHandle(handleKey, { tokenId: registration.tokenId, mentionOnly, expiryDay });
        handles.push(handle);
        return handle;
      };
      const headers = member.device.headers();
      const answer = await call(service.base, "setPushHandle", { headers, body: { handle: seal(false) } });
      expect(answer.status).toBe(204);
      await member.open(service, 1);
      const handle = seal(index === others.length - 1);
      const frame = { kind: "groupPushHandle", groupId: member.groupId, handle } as const;
      expectKind(await member.socket.request(frame), "groupDone");
      await member.socket.close();
    }

    const noteCiphertext = (name: string, bytes: Bytes) => {
      for (const at of [0, Math.floor(bytes.length / 2), bytes.length - 24]) {
        needles.push({ name: `${name}, from ${at}`, bytes: bytes.slice(at, at + 24) });
      }
    };
    const sender = await TestSocket.anonymous(service.port);
    for (let i = 0; i < MESSAGES; i++) {
      const sealed = sealedTo(others.map(({ device }) => device));
      expectKind(await sender.request({ kind: "submitSealed", ...sealed }), "submitAccepted");
      for (const { devices } of sealed.recipients) noteCiphertext("envelope", devices[0]!.ciphertext);
      needles.push({ name: "submit id", bytes: sealed.submitId });
      const said = owner.say(`message ${i} of the group`);
      const mentions = { leaves: [others.at(-1)!.leafIndex], everybody: false };
      const frame = i === MESSAGES - 1 ? { ...said, mentions } : said;
      expectKind(await owner.socket.request(frame), "groupSubmitAccepted");
      noteCiphertext("group message", said.message);
      needles.push({ name: "submit id of a group message", bytes: said.submitId });
    }
    needles.push({ name: "group id", bytes: owner.groupId });
    for (const { device, key } of members) {
      needles.push({ name: "account id", bytes: device.accountId });
      needles.push({ name: "leaf signature key", bytes: key });
      needles.push({ name: "device token", bytes: device.token });
      needles.push({ name: "access key", bytes: device.accessKey });
      needles.push({ name: "identity key", bytes: device.local.identityKey });
    }
    const woken = () => new Set(webPush.received.map(({ to }) => to));
    await vi.waitFor(() => expect(woken().size).toBe(others.length), { timeout: 10_000 });
    // Until the wake-ups of the last messages have come.
    await new Promise((resolve) => setTimeout(resolve, 2_000));
  }, 120_000);
  afterAll(async () => {
    await service.stop();
    expect(await gateway.terminate()).toBe(0);
    await webPush.close();
    directory.remove();
  });

  const haystacks = (): Haystack[] => [
    { name: "to the gateway", bytes: Buffer.concat(gateway.recorded.to) },
    { name: "from the gateway", bytes: Buffer.concat(gateway.recorded.from) },
    ...[database, `${database}-wal`]
      .filter((path) => existsSync(path))
      .map((path) => ({ name: path, bytes: readFileSync(path) })),
    { name: "log", bytes: utf8(gateway.output()) },
    { name: "to the push service", bytes: utf8(JSON.stringify(webPush.received)) },
  ];

  it("in no byte of its interface, its database, its log, or of what it sends on", () => {
    expect(needles.length).toBeGreaterThan(8 * MESSAGES);
    expect(scan(haystacks(), needles)).toEqual([]);
  });

  it("and the scan finds what is there: handles in the interface, subscriptions in the database, a planted leak", () => {
    const found = (name: string, bytes: Uint8Array) => scan(haystacks(), [{ name, bytes }]);
    // The leaf's handle of the one who hears of mentions alone is passed on too: what it says only the gateway reads.
    for (const handle of handles)
      expect(found("handle", handle)).toContainEqual({ needle: "handle", haystack: "to the gateway" });
    const subscription = utf8(webPush.subscription("subscription-0"));
    expect(found("subscription", subscription).some(({ haystack }) => haystack.startsWith(database))).toBe(
      true,
    );
    const planted = { name: "planted", bytes: utf8(Buffer.from(needles[0]!.bytes).toString("base64")) };
    expect(scan([planted], needles)).toContainEqual({ needle: needles[0]!.name, haystack: "planted" });
  });

  it("its interface has words for handles and mentions, and its tables no column for anything else", () => {
    const text = Buffer.concat(gateway.recorded.to).toString("latin1");
    const requests = text
      .split(/(?=POST \/v1\/wake HTTP)/)
      .filter((part) => part.startsWith("POST /v1/wake"));
    expect(requests.length).toBeGreaterThan(1);
    const words = new Set([...text.matchAll(/"(\w+)":/g)].map((match) => match[1]));
    expect([...words].sort()).toEqual(["address", "handle", "kind", "mentioned", "wakes"]);
    const columns = query(
      database,
      "SELECT m.name AS t, c.name AS c FROM sqlite_master m, pragma_table_info(m.name) c WHERE m.type = 'table'",
    );
    expect(columns.map(({ t, c }) => `${t}.${c}`).sort()).toEqual([
      "keys.place",
      "keys.private_key",
      "keys.public_key",
      "tokens.address",
      "tokens.kind",
      "tokens.last_used_day",
      "tokens.secret_hash",
      "tokens.token_id",
    ]);
  });

  it("nor does the delivery service see a push token, or which handles are one device's", () => {
    const paths = [service.databasePath, `${service.databasePath}-wal`].filter((path) => existsSync(path));
    const stored = paths.map((path) => ({ name: path, bytes: readFileSync(path) }));
    const secrets = registrations.flatMap(({ secret, tokenId }, index) => [
      { name: "token id", bytes: tokenId },
      { name: "secret", bytes: utf8(secret) },
      { name: "subscription", bytes: utf8(webPush.subscription(`subscription-${index}`)) },
    ]);
    expect(scan(stored, secrets)).toEqual([]);
    expect(
      scan(
        stored,
        handles.map((bytes) => ({ name: "handle", bytes })),
      ).length,
    ).toBeGreaterThanOrEqual(6);
    expect(WAKE_HANDLE_BYTES).toBe(limits.pushHandleBytes);
  });

  it("each device was woken without a payload, and far less often than it was written to", () => {
    expect(webPush.complaints).toEqual([]);
    expect(webPush.received.every(({ body }) => body === "")).toBe(true);
    expect(webPush.received.length).toBeLessThan((members.length - 1) * 6);
  });
});
