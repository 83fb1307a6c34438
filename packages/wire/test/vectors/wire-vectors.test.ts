import { fromHex, toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { clientBodies, serviceBodies } from "../../src/frames.ts";
import {
  type ClientFrame,
  decodeClientFrame,
  decodeMessage,
  decodeServiceFrame,
  encodeClientFrame,
  encodeMessage,
  encodeServiceFrame,
  limits,
  type ServiceFrame,
} from "../../src/index.ts";
import { encodeByReflection, readSchema, readVectors } from "../../tools/vectors.ts";
import { asVectorValue, declared, withoutDefaults } from "../vector-files.ts";

const schema = readSchema();
const frames = readVectors("frames.json");
const messages = readVectors("messages.json");

describe("wire vectors: frames", () => {
  test.each(frames)("$name", (vector) => {
    const bytes = fromHex(vector.hex!);
    const fromClient = vector.from === "client";
    const frame = fromClient ? decodeClientFrame(bytes) : decodeServiceFrame(bytes);

    const { kind, ...fields } = frame.body;
    expect(asVectorValue({ requestId: frame.requestId })).toEqual(
      asVectorValue({ requestId: vector.value["requestId"] ?? 0 }),
    );
    expect({ [kind]: asVectorValue(fields) }).toEqual({ [kind]: withoutDefaults(vector.value[kind]) });

    const again = fromClient
      ? encodeClientFrame(frame as ClientFrame)
      : encodeServiceFrame(frame as ServiceFrame);
    expect(toHex(again)).toBe(vector.hex);
    expect(encodeByReflection(schema, vector)).toBe(vector.hex);
  });

  test("every kind of frame has a vector", () => {
    const covered = new Set(frames.flatMap(({ value }) => Object.keys(value)));
    covered.delete("requestId");
    expect([...covered].sort()).toEqual([...Object.keys(clientBodies), ...Object.keys(serviceBodies)].sort());
  });
});

describe("wire vectors: HTTP bodies", () => {
  test.each(messages)("$name", (vector) => {
    const type = declared.get(vector.message)!;
    const value = decodeMessage(type, fromHex(vector.hex!), limits.httpBodyBytes);
    expect(asVectorValue(value)).toEqual(vector.value);
    expect(toHex(encodeMessage(type, value))).toBe(vector.hex);
    expect(encodeByReflection(schema, vector)).toBe(vector.hex);
  });

  test("every field of every declared message has a vector, by itself or inside another", () => {
    const covered = new Set<string>();
    const visit = (typeName: string, value: Record<string, unknown>): void => {
      covered.add(typeName);
      const type = schema.lookupType(`murmuration.wire.v1.${typeName}`);
      for (const [key, item] of Object.entries(value)) {
        if (typeName !== "Frame") covered.add(`${typeName}.${key}`);
        const field = type.fields[key]!;
        if (field.resolvedType === null || !("fields" in field.resolvedType)) continue;
        for (const part of Array.isArray(item) ? item : [item]) {
          visit(field.resolvedType.name, part as Record<string, unknown>);
        }
      }
    };
    for (const { message, value } of [...frames, ...messages]) visit(message, value);
    covered.delete("Frame");
    const all = [...declared.values()].flatMap(({ name, fields }) => [
      name,
      ...Object.keys(fields).map((field) => `${name}.${field}`),
    ]);
    expect([...covered].sort()).toEqual(all.sort());
  });
});
