import type { Bytes } from "@murmuration/base";

/** Time as the shell sees it; core functions get numbers. */
export interface Clock {
  /** Milliseconds since 1970. */
  now(): number;
  /** Calls back once; the returned function cancels. A pending call does not keep the process alive. */
  after(delayMs: number, run: () => void): () => void;
}

/** Cryptographically secure randomness. */
export interface Random {
  bytes(length: number): Bytes;
  /** Evenly from 0 up to, and not including, 1. */
  fraction(): number;
}

/** Structured log. Fields are counts, codes and durations: never tokens, ids, addresses or keys. */
export interface Log {
  info(event: string, fields?: Readonly<Record<string, number | string>>): void;
  warn(event: string, fields?: Readonly<Record<string, number | string>>): void;
  error(event: string, fields?: Readonly<Record<string, number | string>>): void;
}
