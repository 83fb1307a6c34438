import { createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { fromHex, groupId, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  encodeGroupBanTbs,
  encodeGroupRefuseTbs,
  encodeLeafAccessTbs,
  GROUP_ACCESS_LABEL,
  GROUP_BAN_LABEL,
  GROUP_REFUSE_LABEL,
} from "../../src/index.ts";
import { readVectors } from "../../tools/vectors.ts";

interface SignedVector<Value> {
  readonly name: string;
  readonly label: string;
  readonly value: Value;
  /** The structure, the SignContent of RFC 9420 section 5.1.2 around it, and the Ed25519 signature of that. */
  readonly tbs: string;
  readonly signed: string;
  readonly privateKey: string;
  readonly publicKey: string;
  readonly signature: string;
}
type Access = Readonly<Record<"service" | "challenge" | "groupId", string>> &
  Readonly<Record<"epoch" | "leafIndex", number>>;
type Ban = { readonly groupId: string; readonly orderId: string; readonly signatureKeys: readonly string[] };
type Refuse = { readonly groupId: string; readonly sequence: number; readonly commitHash: string };

const path = new URL("../../../../spec-vectors/wire/group-access.json", import.meta.url);
const vectors = JSON.parse(readFileSync(path, "utf8")) as ReadonlyArray<SignedVector<Access & Ban & Refuse>>;
const frames = readVectors("frames.json");
const byName = (name: string) => vectors.find((vector) => vector.name === name)!;
const frameBody = (name: string, kind: string) =>
  frames.find((vector) => vector.name === name)!.value[kind] as Readonly<Record<string, unknown>>;

function tbsOf({ label, value }: SignedVector<Access & Ban & Refuse>): Uint8Array {
  const group = groupId(fromHex(value.groupId));
  switch (label) {
    case GROUP_ACCESS_LABEL:
      return encodeLeafAccessTbs({
        service: fromHex(value.service),
        challenge: fromHex(value.challenge),
        groupId: group,
        epoch: value.epoch,
        leafIndex: value.leafIndex,
      });
    case GROUP_BAN_LABEL:
      return encodeGroupBanTbs({
        groupId: group,
        orderId: fromHex(value.orderId),
        signatureKeys: value.signatureKeys.map(fromHex),
      });
    case GROUP_REFUSE_LABEL:
      return encodeGroupRefuseTbs({
        groupId: group,
        sequence: value.sequence,
        commitHash: fromHex(value.commitHash),
      });
    default:
      throw new Error(`a label that nobody signs: ${label}`);
  }
}

describe("wire vectors: what leaves sign for the service", () => {
  test.each(vectors)("$name", (vector) => {
    const tbs = tbsOf(vector);
    expect(toHex(tbs)).toBe(vector.tbs);

    // struct { opaque label<V> = "MLS 1.0 " + label; opaque content<V>; } SignContent: both are shorter than 16,384.
    const withLength = (bytes: Uint8Array): Uint8Array => {
      const { length } = bytes;
      return Buffer.concat([
        Uint8Array.from(length < 64 ? [length] : [0x40 | (length >> 8), length & 0xff]),
        bytes,
      ]);
    };
    const signed = Buffer.concat([withLength(Buffer.from(`MLS 1.0 ${vector.label}`)), withLength(tbs)]);
    expect(signed.toString("hex")).toBe(vector.signed);

    const der = Buffer.concat([fromHex("302e020100300506032b657004220420"), fromHex(vector.privateKey)]);
    const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const publicKey = createPublicKey(privateKey);
    expect(publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("hex")).toBe(
      vector.publicKey,
    );
    expect(sign(null, signed, privateKey).toString("hex")).toBe(vector.signature);
    expect(verify(null, signed, publicKey, fromHex(vector.signature))).toBe(true);
  });

  test("every label has a vector", () => {
    const labels = [GROUP_ACCESS_LABEL, GROUP_BAN_LABEL, GROUP_REFUSE_LABEL];
    expect([...new Set(vectors.map(({ label }) => label))].sort()).toEqual(labels.sort());
  });

  test("the frames of frames.json carry these signatures", () => {
    const hello = frameBody("hello-reply", "helloReply");
    const info = {
      leaf: byName("group-info-leaf"),
      link: byName("group-info-link"),
      expected: byName("group-info-expected"),
    };
    expect(byName("group-access").value.challenge).toBe(hello["challenge"]);
    expect(frameBody("group-access", "groupAccess")).toMatchObject({
      ...pick(byName("group-access").value, "groupId", "epoch", "leafIndex"),
      signature: byName("group-access").signature,
    });
    expect(frameBody("group-info-request-leaf", "groupInfoRequest")["leaf"]).toEqual({
      signatureKey: info.leaf.publicKey,
      signature: info.leaf.signature,
    });
    expect(frameBody("group-info-request-link", "groupInfoRequest")["link"]).toMatchObject({
      signature: info.link.signature,
    });
    expect(frameBody("group-info-request-expected", "groupInfoRequest")["expected"]).toMatchObject({
      signatureKey: info.expected.publicKey,
      signature: info.expected.signature,
    });
    expect(frameBody("group-ban", "groupBan")).toMatchObject({
      ...byName("group-ban").value,
      signature: byName("group-ban").signature,
    });
    expect(frameBody("group-refuse", "groupRefuse")).toMatchObject({
      ...byName("group-refuse").value,
      signature: byName("group-refuse").signature,
    });
  });
});

function pick<T extends object, K extends keyof T>(value: T, ...keys: K[]): Pick<T, K> {
  return Object.fromEntries(keys.map((key) => [key, value[key]])) as Pick<T, K>;
}
