import { fork } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { accountId, type DeviceAddress, type DeviceId, toHex } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import type { KeyPackageStore, KeyPackageUploadRow, StoredKeyPackage } from "../../src/ports/key-packages.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { scan } from "../support/leak-scan.ts";
import { random } from "../support/random.ts";
import { temporaryDirectory } from "../support/service.ts";

const NOW = 1_800_000_000_000;
const DAY_MS = 86_400_000;

const keyPackage = (expiresAtMs = NOW + 90 * DAY_MS): StoredKeyPackage => ({
  reference: random(32),
  message: random(300),
  expiresAtMs,
});
const several = (count: number) => Array.from({ length: count }, () => keyPackage());
const upload = (
  keyPackages: readonly StoredKeyPackage[],
  lastResort?: StoredKeyPackage,
): KeyPackageUploadRow => ({ uploadId: random(16), keyPackages, lastResort, replace: false });
const newOwner = (): DeviceAddress => ({ accountId: accountId(random(16)), deviceId: 1 as DeviceId });
const messagesOf = (keyPackages: readonly StoredKeyPackage[]) =>
  keyPackages.map(({ message }) => toHex(message)).sort();

describe.each(engines)("KeyPackage store on $name", (engine) => {
  let opened: OpenedEngine;
  let keyPackages: KeyPackageStore;
  let owner: DeviceAddress;
  beforeEach(async () => {
    opened = await engine.open();
    keyPackages = opened.stores.keyPackages;
    owner = newOwner();
  });
  afterEach(() => opened.dispose());

  it("hands out each KeyPackage exactly once, however many claim at a time", async () => {
    const stored = several(40);
    await keyPackages.upload(owner, upload(stored), 100);
    const claims = await Promise.all(Array.from({ length: 60 }, () => keyPackages.claim(owner, true, NOW)));
    const claimed = claims.flatMap((claim) => (claim === undefined ? [] : [toHex(claim.message)]));
    expect(claimed.sort()).toEqual(messagesOf(stored));
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 0, lastResort: false });
  });

  it("takes everything away that a device says it has lost the keys of, its last-resort one too", async () => {
    await keyPackages.upload(owner, upload(several(3), keyPackage()), 4);
    const fresh = several(4);
    expect(await keyPackages.upload(owner, { ...upload(fresh), replace: true }, 4)).toBe("stored");
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 4, lastResort: false });
    const claims = await Promise.all(fresh.map(() => keyPackages.claim(owner, true, NOW)));
    expect(claims.map((claim) => toHex(claim!.message)).sort()).toEqual(messagesOf(fresh));
  });

  it("hands out first what expires first, and says what is left", async () => {
    const [late, soon] = [keyPackage(NOW + 9 * DAY_MS), keyPackage(NOW + 2 * DAY_MS)];
    await keyPackages.upload(owner, upload([late, soon]), 100);
    expect(await keyPackages.claim(owner, true, NOW)).toEqual({
      message: soon.message,
      left: { keyPackages: 1, lastResort: false },
    });
    expect(await keyPackages.claim(owner, true, NOW)).toEqual({
      message: late.message,
      left: { keyPackages: 0, lastResort: false },
    });
  });

  it("when they ran out the last-resort KeyPackage answers, again and again", async () => {
    const [only, lastResort] = [keyPackage(), keyPackage()];
    await keyPackages.upload(owner, upload([only], lastResort), 100);
    expect((await keyPackages.claim(owner, true, NOW))?.message).toEqual(only.message);
    for (let i = 0; i < 3; i++) {
      expect(await keyPackages.claim(owner, true, NOW)).toEqual({
        message: lastResort.message,
        left: { keyPackages: 0, lastResort: true },
      });
    }
  });

  it("a claim that is not for one-time KeyPackages uses none up", async () => {
    const lastResort = keyPackage();
    await keyPackages.upload(owner, upload(several(3), lastResort), 100);
    expect(await keyPackages.claim(owner, false, NOW)).toEqual({
      message: lastResort.message,
      left: { keyPackages: 3, lastResort: true },
    });
  });

  it("without a KeyPackage there is no answer, and without a last-resort one none to a claim of that kind", async () => {
    expect(await keyPackages.claim(owner, true, NOW)).toBeUndefined();
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 0, lastResort: false });
    await keyPackages.upload(owner, upload(several(1)), 100);
    expect(await keyPackages.claim(owner, false, NOW)).toBeUndefined();
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 1, lastResort: false });
  });

  it("what is not good for longer than asked is neither counted nor handed out, last resort included", async () => {
    const good = keyPackage(NOW + 2);
    await keyPackages.upload(
      owner,
      upload([keyPackage(NOW), keyPackage(NOW + 1), good], keyPackage(NOW)),
      100,
    );
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 2, lastResort: false });
    expect(await keyPackages.count(owner, NOW + 1)).toEqual({ keyPackages: 1, lastResort: false });
    expect((await keyPackages.claim(owner, true, NOW + 1))?.message).toEqual(good.message);
    expect(await keyPackages.claim(owner, true, NOW + 1)).toBeUndefined();
  });

  it("a claim deletes what expired on the way", async () => {
    await keyPackages.upload(
      owner,
      upload([keyPackage(NOW), keyPackage(NOW + DAY_MS)], keyPackage(NOW)),
      100,
    );
    await keyPackages.claim(owner, true, NOW);
    expect(await keyPackages.expire(NOW + 2 * DAY_MS, 10)).toBe(0);
  });

  it("a repeated upload brings back nothing that was handed out", async () => {
    const first = upload(several(5), keyPackage());
    expect(await keyPackages.upload(owner, first, 100)).toBe("stored");
    await keyPackages.claim(owner, true, NOW);
    expect(await keyPackages.upload(owner, first, 100)).toBe("repeated");
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 4, lastResort: true });
  });

  it("the same KeyPackage uploaded twice is one, in one upload and in two", async () => {
    const one = keyPackage();
    await keyPackages.upload(owner, upload([one, { ...one, message: random(300) }]), 100);
    await keyPackages.upload(owner, upload([one]), 100);
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 1, lastResort: false });
    expect((await keyPackages.claim(owner, true, NOW))?.message).toEqual(one.message);
    expect(await keyPackages.claim(owner, true, NOW)).toBeUndefined();
  });

  it("two devices may hold KeyPackages of one reference", async () => {
    const neighbour = { ...owner, deviceId: 2 as DeviceId };
    const one = keyPackage();
    await keyPackages.upload(owner, upload([one]), 100);
    await keyPackages.upload(neighbour, upload([one]), 100);
    expect((await keyPackages.claim(owner, true, NOW))?.message).toEqual(one.message);
    expect((await keyPackages.claim(neighbour, true, NOW))?.message).toEqual(one.message);
  });

  it("replaces the last-resort KeyPackage only where the upload has one", async () => {
    const [first, second] = [keyPackage(), keyPackage()];
    await keyPackages.upload(owner, upload([], first), 100);
    await keyPackages.upload(owner, upload(several(1)), 100);
    expect((await keyPackages.claim(owner, false, NOW))?.message).toEqual(first.message);
    await keyPackages.upload(owner, upload([], second), 100);
    expect((await keyPackages.claim(owner, false, NOW))?.message).toEqual(second.message);
  });

  it("refuses an upload beyond the limit as a whole; the last-resort one does not count", async () => {
    const lastResort = keyPackage();
    await keyPackages.upload(owner, upload(several(6), lastResort), 10);
    expect(await keyPackages.upload(owner, upload(several(5), keyPackage()), 10)).toBe("too-many");
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 6, lastResort: true });
    expect((await keyPackages.claim(owner, false, NOW))?.message).toEqual(lastResort.message);
    expect(await keyPackages.upload(owner, upload(several(4)), 10)).toBe("stored");
  });

  it("removes every KeyPackage of a device and none of its neighbour", async () => {
    const neighbour = { ...owner, deviceId: 2 as DeviceId };
    const again = upload(several(2), keyPackage());
    await keyPackages.upload(owner, again, 100);
    await keyPackages.upload(neighbour, upload(several(3), keyPackage()), 100);
    await keyPackages.remove(owner);
    expect(await keyPackages.count(owner, NOW)).toEqual({ keyPackages: 0, lastResort: false });
    expect(await keyPackages.claim(owner, false, NOW)).toBeUndefined();
    expect(await keyPackages.count(neighbour, NOW)).toEqual({ keyPackages: 3, lastResort: true });
    expect(await keyPackages.upload(owner, again, 100)).toBe("stored");
  });

  it("KeyPackages expire at the end of their lifetime, at most as many as asked", async () => {
    const ends = [NOW, NOW + 1, NOW + 2, NOW + 3].map((end) => keyPackage(end));
    await keyPackages.upload(owner, upload(ends), 100);
    await keyPackages.upload(newOwner(), upload([], keyPackage(NOW)), 100);
    expect(await keyPackages.expire(NOW + 3, 3)).toBe(3);
    expect(await keyPackages.expire(NOW + 3, 3)).toBe(1);
    expect(await keyPackages.expire(NOW + 3, 3)).toBe(0);
    expect((await keyPackages.claim(owner, true, NOW))?.message).toEqual(ends[3]!.message);
  });
});

describe("KeyPackages in one file", () => {
  let directory: ReturnType<typeof temporaryDirectory>;
  let owner: DeviceAddress;
  beforeEach(() => {
    directory = temporaryDirectory();
    owner = newOwner();
  });
  afterEach(() => directory.remove());

  it("two connections hand out each KeyPackage once", async () => {
    const [a, b] = [openSqliteStores(directory.path), openSqliteStores(directory.path)];
    const stored = several(30);
    await a.keyPackages.upload(owner, upload(stored), 100);
    const claims = await Promise.all(
      Array.from({ length: 40 }, (_, i) => (i % 2 === 0 ? a : b).keyPackages.claim(owner, true, NOW)),
    );
    const claimed = claims.flatMap((claim) => (claim === undefined ? [] : [toHex(claim.message)]));
    expect(claimed.sort()).toEqual(messagesOf(stored));
    await a.close();
    await b.close();
  });

  it("three processes hand out each KeyPackage once", async () => {
    const stores = openSqliteStores(directory.path);
    const stored = several(150);
    await stores.keyPackages.upload(owner, upload(stored), 200);
    const entry = fileURLToPath(new URL("../support/claimer.ts", import.meta.url));
    const processes = [1, 2, 3].map(() =>
      fork(entry, [directory.path, toHex(owner.accountId), String(NOW)], {
        execArgv: [
          "--conditions=@murmuration/source",
          "--experimental-strip-types",
          "--disable-warning=ExperimentalWarning",
        ],
      }),
    );
    await Promise.all(processes.map((child) => once(child, "message")));
    const ends = processes.map((child) => once(child, "exit"));
    const answers = processes.map((child) => once(child, "message"));
    for (const child of processes) child.send("go");
    const claimed = (await Promise.all(answers)).map(([messages]) => messages as string[]);
    await Promise.all(ends);
    expect(claimed.flat().sort()).toEqual(messagesOf(stored));
    await stores.close();
  });

  it("of a KeyPackage that was claimed, expired, replaced or removed nothing is left in the file", async () => {
    const stores = openSqliteStores(directory.path);
    const [claimed, expired, replaced, removed, kept] = several(5) as [
      StoredKeyPackage,
      StoredKeyPackage,
      StoredKeyPackage,
      StoredKeyPackage,
      StoredKeyPackage,
    ];
    const neighbour = newOwner();
    const second = upload(several(20), kept);
    await stores.keyPackages.upload(
      owner,
      upload(
        [
          { ...claimed, expiresAtMs: NOW + 5 },
          { ...expired, expiresAtMs: NOW + 6 },
        ],
        replaced,
      ),
      100,
    );
    await stores.keyPackages.upload(neighbour, upload([removed]), 100);
    await stores.keyPackages.claim(owner, true, NOW);
    await stores.keyPackages.upload(owner, second, 100);
    await stores.keyPackages.expire(NOW + 7, 10);
    await stores.keyPackages.remove(neighbour);
    await stores.compact();
    const file = `${directory.path}/delivery-service.sqlite`;
    const haystacks = [file, `${file}-wal`]
      .filter((name) => existsSync(name))
      .map((name) => ({ name, bytes: readFileSync(name) }));
    const needles = Object.entries({ claimed, expired, replaced, removed, kept }).flatMap(([name, one]) => [
      { name: `${name}: reference`, bytes: one.reference },
      { name: `${name}: beginning`, bytes: one.message.subarray(0, 24) },
      { name: `${name}: end`, bytes: one.message.subarray(-24) },
    ]);
    // The one that is kept is found: the search sees what there is.
    expect(new Set(scan(haystacks, needles).map((leak) => leak.needle))).toEqual(
      new Set(["kept: reference", "kept: beginning", "kept: end"]),
    );
    await stores.close();
  });
});
