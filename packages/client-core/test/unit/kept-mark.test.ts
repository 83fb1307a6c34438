import { expect, test } from "vitest";
import type { Context } from "../../src/shell/context.ts";
import { KeptMark } from "../../src/shell/kept-mark.ts";

const mark = (n: number) => new Uint8Array(44).fill(n);

/** On a clock that a test moves, with a database that may refuse. */
function keeping() {
  const state = {
    now: 1_000_000,
    stored: undefined as Uint8Array | undefined,
    transactions: 0,
    isFull: false,
  };
  const failures: unknown[] = [];
  const context = {
    now: () => state.now,
    failed: (error: unknown) => failures.push(error),
    meta: {
      bytes: () => state.stored,
      setBytes: (_: string, value: Uint8Array) => {
        state.stored = value;
      },
    },
    transaction: (body: () => void) => {
      if (state.isFull) throw new Error("disk full");
      state.transactions++;
      body();
    },
  };
  return { state, failures, kept: new KeptMark(context as unknown as Context) };
}

test("a mark that comes with envelopes is written with them, and shown before that", () => {
  const { kept, state } = keeping();
  kept.hear(mark(1));
  kept.hear(undefined);
  expect(kept.newest()).toEqual(mark(1));
  expect(state.stored).toBeUndefined();
  kept.write();
  expect(state.stored).toEqual(mark(1));
  expect(kept.newest()).toEqual(mark(1));
});

// The service sees at Hello which mark was the last to be kept: that must not tell it when this device has sent something.
test("marks that come with nothing else are written once in a minute, whatever the device does; the newest is shown", () => {
  const { kept, state } = keeping();
  for (let second = 0; second < 300; second++) {
    kept.hearAlone(mark(second % 256));
    state.now += 1_000;
  }
  expect(state.transactions).toBe(5);
  expect(kept.newest()).toEqual(mark(299 % 256));
  kept.keep();
  expect(state.stored).toEqual(mark(299 % 256));
});

test("a database that takes no more fails the client where it says so, and not the connection", () => {
  const { failures, kept, state } = keeping();
  state.isFull = true;
  kept.hearAlone(mark(1));
  expect(failures).toHaveLength(1);
  expect(kept.newest()).toEqual(mark(1));
});
