import { InvariantError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import {
  actions,
  createRejection,
  decodeMessage,
  encodeRejection,
  isRejectionCode,
  type RejectionCode,
  rejection,
  rejectionRow,
  rejections,
} from "../../src/index.ts";

const codes = Object.keys(rejections) as RejectionCode[];

describe("rejections", () => {
  test.each(codes)("%s says what to do, and travels", (code) => {
    const row = rejectionRow(code);
    expect(Object.keys(actions)).toContain(row.action);
    expect(row.status).toBeGreaterThanOrEqual(400);
    expect(row.status).toBeLessThan(600);
    expect(row.sentence).toMatch(/^[A-Z][^\n]*\.$/);
    expect(decodeMessage(rejection, encodeRejection(code, 5), 100)).toEqual(createRejection(code, 5));
  });

  test("a wait is only suggested with a time where one is given", () => {
    expect(createRejection("rate/limited")).toEqual({ code: "rate/limited", action: "retry-later" });
  });

  test("a code that nobody listed is a bug, not an answer", () => {
    expect(isRejectionCode("constructor")).toBe(false);
    expect(() => rejectionRow("area/never-listed")).toThrow(InvariantError);
  });
});
