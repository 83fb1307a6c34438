import { describe, expect, it } from "vitest";
import { forbidden, specifiersOf } from "../import-rules.ts";

describe("import rules", () => {
  it("finds static imports, re-exports, side-effect imports and dynamic imports", () => {
    const source = `import a from "one";\nexport { b } from "two";\nimport "three";\nawait import("four");\nimport {\n  c,\n} from "five";`;
    expect(specifiersOf(source)).toEqual(["one", "two", "three", "four", "five"]);
  });

  it.each([
    ["packages/mls-groups/src/tree/node.ts", "@murmuration/wire"],
    ["packages/mls-groups/src/tree/node.ts", "@signalapp/libsignal-client"],
    ["packages/client-core/src/outbox.ts", "@murmuration/delivery-service"],
    ["packages/client-core/src/outbox.ts", "@signalapp/libsignal-client"],
    ["packages/client-core/src/outbox.ts", "@signalapp/sqlcipher"],
    ["packages/delivery-service/src/group-log.ts", "node:sqlite"],
    ["packages/delivery-service/src/group-log.ts", "@murmuration/mls-groups"],
    ["packages/delivery-service/src/group-log.ts", "@murmuration/pairwise"],
    ["packages/pairwise/src/session.ts", "../../mls-groups/src/index.ts"],
    ["packages/base/src/bytes.ts", "@murmuration/wire"],
  ])("refuses %s importing %s", (file, specifier) => {
    expect(forbidden(file, specifier)).toBeTypeOf("string");
  });

  it.each([
    ["packages/delivery-service/src/adapters/sqlite-store.ts", "node:sqlite"],
    ["packages/delivery-service/src/group-log.ts", "@murmuration/mls-groups/public-group"],
    ["packages/pairwise/src/session.ts", "@signalapp/libsignal-client/dist/zkgroup/index.js"],
    ["packages/mls-groups/src/tree/node.ts", "./math.ts"],
  ])("lets %s import %s", (file, specifier) => {
    expect(forbidden(file, specifier)).toBeUndefined();
  });
});
