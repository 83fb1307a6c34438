import { accountId, type DeviceAddress, type DeviceId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { KeyStore, KeyUpload, SignedPublicPreKey } from "../../src/ports/keys.ts";
import { engines, type OpenedEngine } from "../support/engines.ts";
import { random } from "../support/random.ts";

const signed = (id: number): SignedPublicPreKey => ({ id, publicKey: random(33), signature: random(64) });
const ids = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);

const upload = (from: number, count: number, given: Partial<KeyUpload> = {}): KeyUpload => ({
  uploadId: random(16),
  signedPreKey: signed(900),
  lastResortKyberPreKey: signed(901),
  preKeys: ids(from, count).map((id) => ({ id, publicKey: random(33) })),
  kyberPreKeys: ids(from, count).map(signed),
  replace: false,
  ...given,
});

describe.each(engines)("key store on $name", (engine) => {
  let opened: OpenedEngine;
  let keys: KeyStore;
  let owner: DeviceAddress;
  beforeEach(async () => {
    opened = await engine.open();
    keys = opened.stores.keys;
    owner = { accountId: accountId(random(16)), deviceId: 1 as DeviceId };
  });
  afterEach(() => opened.dispose());

  it("hands out each one-time key exactly once, however many claim at a time", async () => {
    await keys.upload(owner, upload(1, 40), 100);
    const claims = await Promise.all(Array.from({ length: 60 }, () => keys.claim(owner, true)));
    const ec = claims.flatMap((claim) => claim?.preKey?.id ?? []);
    const kyber = claims.flatMap((claim) => claim?.kyberPreKey.id ?? []).filter((id) => id !== 901);
    expect(ec.sort((a, b) => a - b)).toEqual(ids(1, 40));
    expect(kyber.sort((a, b) => a - b)).toEqual(ids(1, 40));
    expect(await keys.count(owner)).toEqual({ preKeys: 0, kyberPreKeys: 0 });
  });

  it("falls back to the last-resort key when exhausted, and says what is left", async () => {
    const only = upload(1, 1);
    await keys.upload(owner, only, 100);
    expect(await keys.claim(owner, true)).toEqual({
      signedPreKey: only.signedPreKey,
      preKey: only.preKeys[0],
      kyberPreKey: only.kyberPreKeys[0],
      left: { preKeys: 0, kyberPreKeys: 0 },
    });
    expect(await keys.claim(owner, true)).toMatchObject({
      preKey: undefined,
      kyberPreKey: only.lastResortKyberPreKey,
    });
  });

  it("one-time keys that replace those before are all that is there, also where there were as many as there may be", async () => {
    await keys.upload(owner, upload(1, 100), 100);
    const renewed = upload(51, 60, { replace: true });
    expect(await keys.upload(owner, renewed, 100)).toBe("stored");
    expect(await keys.count(owner)).toEqual({ preKeys: 60, kyberPreKeys: 60 });
    const claims = await Promise.all(ids(1, 60).map(() => keys.claim(owner, true)));
    const byId = <T extends { readonly id: number }>(all: readonly (T | undefined)[]) =>
      all.map((key) => key!).sort((a, b) => a.id - b.id);
    expect(byId(claims.map((claim) => claim!.preKey))).toEqual(renewed.preKeys);
    expect(byId(claims.map((claim) => claim!.kyberPreKey))).toEqual(renewed.kyberPreKeys);
    expect(await keys.upload(owner, renewed, 100)).toBe("repeated");
    expect(await keys.count(owner)).toEqual({ preKeys: 0, kyberPreKeys: 0 });
  });

  it("a claim without one-time keys uses none up", async () => {
    await keys.upload(owner, upload(1, 3), 100);
    const claimed = await keys.claim(owner, false);
    expect(claimed).toMatchObject({ preKey: undefined, left: { preKeys: 3, kyberPreKeys: 3 } });
    expect(claimed?.kyberPreKey.id).toBe(901);
  });

  it("has nothing to hand out before a signed prekey and a Kyber prekey are there", async () => {
    expect(await keys.claim(owner, true)).toBeUndefined();
    const half = upload(1, 1, { signedPreKey: undefined });
    await keys.upload(owner, half, 100);
    expect(await keys.claim(owner, true)).toBeUndefined();
    expect(await keys.count(owner)).toEqual({ preKeys: 1, kyberPreKeys: 1 });
    await keys.upload(owner, upload(5, 0), 100);
    expect((await keys.claim(owner, true))?.signedPreKey.id).toBe(900);
  });

  it("a repeated upload brings back no key that was handed out", async () => {
    const first = upload(1, 5);
    await keys.upload(owner, first, 100);
    await keys.claim(owner, true);
    expect(await keys.upload(owner, first, 100)).toBe("repeated");
    expect(await keys.count(owner)).toEqual({ preKeys: 4, kyberPreKeys: 4 });
  });

  it("replaces signed and last-resort keys only where the upload has them", async () => {
    const first = upload(1, 0);
    await keys.upload(owner, first, 100);
    const rotated = upload(1, 0, { lastResortKyberPreKey: undefined, signedPreKey: signed(950) });
    await keys.upload(owner, rotated, 100);
    expect(await keys.claim(owner, true)).toMatchObject({
      signedPreKey: rotated.signedPreKey,
      kyberPreKey: first.lastResortKyberPreKey,
    });
  });

  it("refuses an upload beyond the limit as a whole", async () => {
    await keys.upload(owner, upload(1, 6), 10);
    const signedPreKey = signed(999);
    expect(await keys.upload(owner, upload(7, 5, { signedPreKey }), 10)).toBe("too-many");
    expect(await keys.count(owner)).toEqual({ preKeys: 6, kyberPreKeys: 6 });
    expect((await keys.claim(owner, false))?.signedPreKey.id).toBe(900);
    expect(await keys.upload(owner, upload(7, 4), 10)).toBe("stored");
  });

  it("removes every key of a device and none of its neighbour", async () => {
    const neighbour = { ...owner, deviceId: 2 as DeviceId };
    await keys.upload(owner, upload(1, 2), 100);
    await keys.upload(neighbour, upload(1, 3), 100);
    await keys.remove(owner);
    expect(await keys.claim(owner, true)).toBeUndefined();
    expect(await keys.count(owner)).toEqual({ preKeys: 0, kyberPreKeys: 0 });
    expect(await keys.count(neighbour)).toEqual({ preKeys: 3, kyberPreKeys: 3 });
  });
});
