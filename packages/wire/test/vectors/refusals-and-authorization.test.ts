import { createHash, createPrivateKey, createPublicKey, sign, verify } from "node:crypto";
import { readFileSync } from "node:fs";
import { fromHex, groupId, RejectionError, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  decodeClientFrame,
  decodeServiceFrame,
  encodeGroupAccessTbs,
  formatAccessKey,
  formatDeviceAuth,
  formatGroupAccess,
  type GroupOperation,
  parseAccessKey,
  parseDeviceAuth,
  parseGroupAccess,
} from "../../src/index.ts";
import { asVectorValue } from "../vector-files.ts";

const folder = new URL("../../../../spec-vectors/wire/", import.meta.url);
const read = <T>(name: string): T[] => JSON.parse(readFileSync(new URL(name, folder), "utf8")) as T[];

interface Refusal {
  readonly name: string;
  readonly from: "client" | "service";
  readonly hex: string;
  readonly code: string;
}
interface Authorization {
  readonly name: string;
  readonly value: Readonly<Record<string, string>>;
  readonly text: string;
}

describe("wire vectors: refusals", () => {
  test.each(read<Refusal>("refusals.json"))("$name is refused with $code", ({ from, hex, code }) => {
    const decode = from === "client" ? decodeClientFrame : decodeServiceFrame;
    let refused: unknown;
    try {
      decode(fromHex(hex));
    } catch (error) {
      refused = error;
    }
    expect(refused).toBeInstanceOf(RejectionError);
    expect(refused).toMatchObject({ code });
  });
});

describe("wire vectors: authorisation", () => {
  const vectors = read<Authorization>("authorization.json");
  const byName = (name: string): Authorization => vectors.find((vector) => vector.name === name)!;

  test("device", () => {
    const { value, text } = byName("device");
    const parsed = parseDeviceAuth(text);
    expect(asVectorValue(parsed)).toEqual(value);
    expect(formatDeviceAuth(parsed)).toBe(text);
  });

  test("access-key", () => {
    const { value, text } = byName("access-key");
    expect(toHex(parseAccessKey(text))).toBe(value["accessKey"]);
    expect(formatAccessKey(fromHex(value["accessKey"]!))).toBe(text);
  });

  test.each(["group-read", "group-write", "group-renew-lease"])("%s", (name) => {
    const { value, text } = byName(name);
    const bytes = (key: string) => fromHex(value[key]!);
    const tbs = encodeGroupAccessTbs({
      challenge: bytes("challenge"),
      groupId: groupId(bytes("groupId")),
      operation: value["operation"] as GroupOperation,
      bodyHash: createHash("sha256").update(bytes("body")).digest(),
    });
    expect(toHex(tbs)).toBe(value["tbs"]);

    const der = Buffer.concat([fromHex("302e020100300506032b657004220420"), bytes("accessPrivateKey")]);
    const privateKey = createPrivateKey({ key: der, format: "der", type: "pkcs8" });
    const publicKey = createPublicKey(privateKey);
    expect(publicKey.export({ format: "der", type: "spki" }).subarray(-32).toString("hex")).toBe(
      value["accessPublicKey"],
    );
    expect(sign(null, tbs, privateKey).toString("hex")).toBe(value["signature"]);

    const access = parseGroupAccess(text);
    expect(verify(null, tbs, publicKey, access.signature)).toBe(true);
    expect(formatGroupAccess(access)).toBe(text);
  });
});
