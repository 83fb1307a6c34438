import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { type AccountId, formatId, groupId, utf8 } from "@murmuration/base";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { query } from "../support/database.ts";
import { createGroup } from "../support/group-access.ts";
import { type Haystack, type Needle, scan } from "../support/leak-scan.ts";
import { random } from "../support/random.ts";
import { temporaryDirectory } from "../support/service.ts";
import { type ServiceProcess, startServiceProcess } from "../support/service-process.ts";
import { call, recipientOf, registerMany, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const PLAINTEXT = "meet me at the old lighthouse at nine, bring the ledger";

describe("after a run, database, log and metrics hold no sender, no membership, no plaintext", () => {
  const directory = temporaryDirectory();
  const database = `${directory.path}/delivery-service.sqlite`;
  let service: ServiceProcess;
  let alice: TestDevice;
  let members: TestDevice[];
  const group = groupId(random(16));
  const fence = random(16);
  let submits: ReturnType<typeof sealedTo>[];

  beforeAll(async () => {
    service = await startServiceProcess(directory.path);
    alice = await TestDevice.register(service.base, true);
    members = await registerMany(service.base, 6);
    await createGroup(service.base, group, fence, random(700));
    const certificate = await call(service.base, "certificate", { headers: alice.headers() });
    expect(certificate.status).toBe(200);
    await alice.acceptCertificate(certificate.body["certificate"] as Uint8Array<ArrayBuffer>);
    for (const member of members) await alice.meet(service.base, member);
    const sender = await TestSocket.anonymous(service.port);
    submits = [];
    for (let i = 0; i < 5; i++) {
      const ciphertexts = await alice.sealTo(members, utf8(PLAINTEXT));
      const submit = {
        ...sealedTo([]),
        recipients: members.map((member, index) => recipientOf([member], ciphertexts[index]!)),
        fence: { groupId: group, fence },
      };
      submits.push(submit);
      expect(await sender.request({ kind: "submitSealed", ...submit })).toMatchObject({
        kind: "submitAccepted",
      });
    }
    // Some acknowledge and some do not, some frames are refused: whatever logs, had its chance.
    const reader = await TestSocket.device(service.port, members[0]!);
    const [first] = await reader.envelopes(5);
    await reader.request({ kind: "acknowledge", throughEnvelopeId: first!.envelopeId });
    await reader.request({ kind: "submitSealed", ...submits[0]! });
    await sender.request({
      kind: "submitSealed",
      ...sealedTo([alice]),
      fence: { groupId: group, fence: random(16) },
    });
    await call(service.base, "deviceList", { parameters: { accountId: formatId(alice.accountId) } });
  }, 120_000);
  afterAll(async () => {
    await service.kill();
    directory.remove();
  });

  /** The files while the service is running, so that the write-ahead log is full. */
  async function haystacks(): Promise<Haystack[]> {
    const copy = `${directory.path}/copy`;
    const files = ["", "-wal"].filter((suffix) => existsSync(database + suffix));
    expect(files).toContain("-wal");
    return [
      ...files.map((suffix) => {
        copyFileSync(database + suffix, copy);
        return { name: `database${suffix}`, bytes: readFileSync(copy) };
      }),
      { name: "log", bytes: Buffer.from(service.output()) },
      { name: "metrics", bytes: Buffer.from(await (await fetch(`${service.base}/metrics`)).text()) },
    ];
  }

  const secrets = (): Needle[] => [
    { name: "plaintext", bytes: utf8(PLAINTEXT) },
    { name: "token", bytes: alice.token },
    { name: "access key", bytes: members[0]!.accessKey },
    ...submits.map((submit) => ({ name: "submit id", bytes: submit.submitId })),
  ];

  it("nowhere is there plaintext, a token, an access key or a submit id, in any form", async () => {
    expect(scan(await haystacks(), secrets())).toEqual([]);
  });

  it("log and metrics name no account, no group, no fence and no address", async () => {
    const ids = [
      ...[alice, ...members].map((device) => ({ name: "account", bytes: device.accountId })),
      { name: "group", bytes: group },
      { name: "fence", bytes: fence },
      { name: "remote address", bytes: utf8("127.0.0.1") },
    ];
    const spoken = (await haystacks()).filter(({ name }) => name === "log" || name === "metrics");
    expect(spoken.map(({ bytes }) => bytes.length > 0)).toEqual([true, true]);
    expect(scan(spoken, ids)).toEqual([]);
  });

  /** Every cell of every table whose content holds one of these ids, as `table.column`. */
  function placesOf(ids: readonly Uint8Array[]): Set<string> {
    const places = new Set<string>();
    for (const { name } of query(database, "SELECT name FROM sqlite_schema WHERE type = 'table'")) {
      for (const row of query(database, `SELECT * FROM "${name}"`)) {
        for (const [column, value] of Object.entries(row)) {
          const bytes = value instanceof Uint8Array ? value : utf8(String(value));
          const hits = scan(
            [{ name: "cell", bytes }],
            ids.map((id) => ({ name: "id", bytes: id })),
          );
          if (hits.length > 0) places.add(`${name}.${column}`);
        }
      }
    }
    return places;
  }

  it("the sender of a sealed envelope is in no table but those of its own account", () => {
    const own = ["accounts", "devices", "key_sets", "one_time_keys", "mailboxes"];
    const allowed = new Set([...own.map((table) => `${table}.account_id`), "accounts.list_bytes"]);
    expect([...placesOf([alice.accountId])].filter((place) => !allowed.has(place))).toEqual([]);
    expect(query(database, "SELECT DISTINCT source_account FROM envelopes")).toEqual([
      { source_account: null },
    ]);
  });

  it("group and fence are in the group's own row only, and no member is", () => {
    expect(placesOf([group])).toEqual(new Set(["group_records.group_id"]));
    expect(placesOf([fence])).toEqual(new Set(["group_records.fence"]));
    const ids: AccountId[] = members.map((member) => member.accountId);
    const places = [...placesOf(ids)];
    expect(
      places.filter((place) => /^(group_records|submits|blobs|blob_chunks|envelopes)\./.test(place)),
    ).toEqual([]);
  });

  it("finds a planted leak in each of its forms, in the log and in the write-ahead log", async () => {
    const forms: Record<string, (text: string) => Uint8Array> = {
      raw: (text) => Buffer.from(text),
      hex: (text) => Buffer.from(Buffer.from(text).toString("hex").toUpperCase()),
      base64: (text) => Buffer.from(`xx${Buffer.from(`y${text}`).toString("base64")}`),
      "UTF-16": (text) => Buffer.from(text, "utf16le"),
    };
    for (const [form, encode] of Object.entries(forms)) {
      const planted = { name: "log", bytes: Buffer.concat([random(33), encode(PLAINTEXT), random(5)]) };
      expect(scan([planted], secrets()), form).toEqual([{ needle: "plaintext", haystack: "log" }]);
    }
    const profile = new Uint8Array(Buffer.from(PLAINTEXT, "utf16le"));
    const body = { accessKey: alice.accessKey, profile };
    expect((await call(service.base, "updateProfile", { headers: alice.headers(), body })).status).toBe(204);
    expect(scan(await haystacks(), secrets())).toContainEqual({
      needle: "plaintext",
      haystack: "database-wal",
    });
  });
});
