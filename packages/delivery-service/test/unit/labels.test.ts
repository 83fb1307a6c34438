import { groupId } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { labelled } from "../../src/admin.ts";
import type { GroupHealth } from "../../src/ports/group-health.ts";

const bytes = (fill: number, length = 16) => new Uint8Array(length).fill(fill);
const group = (fill: number) => ({ groupId: groupId(bytes(fill)), epoch: fill }) as unknown as GroupHealth;

describe("labels of groups", () => {
  it("are the same under one key, and others under another", () => {
    const [one, two] = labelled([group(1), group(2)], bytes(9));
    expect(labelled([group(1)], bytes(9))[0]!.label).toBe(one!.label);
    expect(labelled([group(1)], bytes(8))[0]!.label).not.toBe(one!.label);
    expect(two!.label).not.toBe(one!.label);
    expect(one!.label).toMatch(/^[0-9a-f]{10}$/);
  });

  it("take the id's place: what is shown does not hold it", () => {
    expect(labelled([group(1)], bytes(9))[0]).toEqual({ label: expect.any(String), epoch: 1 });
  });

  it("want a key that nobody tries out", () => {
    expect(() => labelled([], bytes(1, 15))).toThrow("admin/short-key");
  });
});
