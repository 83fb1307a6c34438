import { randomBytes } from "node:crypto";
import type { Bytes } from "@murmuration/base";

/** Bytes that only have to differ: no test's course depends on them. */
export const random = (length: number): Bytes => new Uint8Array(randomBytes(length));
