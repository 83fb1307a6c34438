import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { describe, expect, test } from "vitest";
import { clientBodies, serviceBodies } from "../../src/frames.ts";
import { actions } from "../../src/index.ts";
import type { MessageType } from "../../src/shape.ts";
import { generate } from "../../tools/generate.ts";
import { readSchema } from "../../tools/vectors.ts";
import { declared } from "../vector-files.ts";

const schema = readSchema();
const PACKAGE = "murmuration.wire.v1";

describe("the schema and the declarations", () => {
  test("name the same messages", () => {
    const namespace = schema.lookup(PACKAGE) as protobuf.Namespace;
    const types = namespace.nestedArray.filter((item) => item instanceof protobuf.Type);
    const names = types.map(({ name }) => name).filter((name) => name !== "Frame");
    expect(names.sort()).toEqual([...declared.keys()].sort());
  });

  test.each([...declared.values()])("$name has the same fields with the same types and presence", (type) => {
    const proto = schema.lookupType(`${PACKAGE}.${type.name}`);
    const ofProto = proto.fieldsArray.map((field) => ({
      name: field.name,
      type: field.type,
      presence: field.repeated ? "repeated" : field.partOf !== null ? "optional" : "required",
    }));
    const ours = Object.entries(type.fields).map(([name, field]) => ({
      name,
      type: field.protoType,
      presence: field.presence,
    }));
    expect(ours).toEqual(ofProto);
  });

  test("frames carry the bodies that the schema's oneof names", () => {
    const frame = schema.lookupType(`${PACKAGE}.Frame`);
    const ours: Record<string, MessageType<unknown>> = { ...clientBodies, ...serviceBodies };
    const inProto = frame.oneofs["body"]!.fieldsArray.map(({ name, type }) => [name, type]);
    expect(Object.entries(ours).map(([name, type]) => [name, type.name])).toEqual(inProto);
  });

  test("actions have the schema's numbers", () => {
    const inProto = schema.lookupEnum(`${PACKAGE}.Action`).values;
    const ours = Object.entries(actions).map(([name, number]) => [
      `ACTION_${name.toUpperCase().replaceAll("-", "_")}`,
      number,
    ]);
    expect(Object.fromEntries([["ACTION_UNSPECIFIED", 0], ...ours])).toEqual(inProto);
  });

  test("client frames use field numbers 16 to 39, service frames 40 to 63; MLS keeps 64 to 127", () => {
    const { fields, reserved } = schema.lookupType(`${PACKAGE}.Frame`);
    for (const name of Object.keys(clientBodies)) expect(fields[name]!.id, name).toBeOneOf(range(16, 39));
    for (const name of Object.keys(serviceBodies)) expect(fields[name]!.id, name).toBeOneOf(range(40, 63));
    expect(reserved).toEqual([[64, 127]]);
  });
});

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, index) => from + index);
}

describe("generated code", async () => {
  const generated = await generate();
  test.each(["messages.js", "messages.d.ts"] as const)("%s is what generating again gives", (name) => {
    const path = fileURLToPath(new URL(`../../src/generated/${name}`, import.meta.url));
    expect(readFileSync(path, "utf8") === generated[name], "run: npm run generate -w packages/wire").toBe(
      true,
    );
  });
});
