import { MurmurationError } from "@murmuration/base";
import { expect } from "vitest";

/** Asserts that the action throws an error of the project with this code, and not one of the platform. */
export function expectCode(action: () => unknown, code: string): void {
  expect(codeOf(action)).toBe(code);
}

/** The code of the error that the action throws, undefined if it throws none; any other error passes. */
export function codeOf(action: () => unknown): string | undefined {
  try {
    action();
    return undefined;
  } catch (error) {
    if (error instanceof MurmurationError) return error.code;
    throw error;
  }
}
