import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";
import { describe, expect, test } from "vitest";
import { clientBodies, serviceBodies } from "../../src/frames.ts";
import { actions, migrationStates, turnReasons } from "../../src/index.ts";
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
    const declaredBodies = Object.entries(ours).map(([name, type]) => [name, type.name]);
    expect(Object.fromEntries(declaredBodies)).toEqual(Object.fromEntries(inProto));
    expect(declaredBodies).toHaveLength(inProto.length);
  });

  test.each([
    ["Action", "ACTION", actions],
    ["TurnReason", "TURN_REASON", turnReasons],
    ["MigrationState", "MIGRATION_STATE", migrationStates],
  ])("%s has the schema's numbers", (name, prefix, numbers) => {
    const ours = Object.entries(numbers).map(([key, number]) => [
      `${prefix}_${key.toUpperCase().replaceAll("-", "_")}`,
      number,
    ]);
    expect(Object.fromEntries([[`${prefix}_UNSPECIFIED`, 0], ...ours])).toEqual(
      schema.lookupEnum(`${PACKAGE}.${name}`).values,
    );
  });

  test.each([
    ["client", clientBodies, range(16, 39), range(64, 95)],
    ["service", serviceBodies, range(40, 63), range(96, 127)],
  ] as const)("the %s's frames have field numbers of their own ranges", (_, bodies, others, ofGroups) => {
    const { fields } = schema.lookupType(`${PACKAGE}.Frame`);
    for (const name of Object.keys(bodies)) {
      expect(fields[name]!.id, name).toBeOneOf(name.startsWith("group") ? ofGroups : others);
    }
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
