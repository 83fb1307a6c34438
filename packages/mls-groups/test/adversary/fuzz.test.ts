import { RejectionError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { attempt, bounds, type Finding, Fuzzer, freshProgress } from "../fuzz/fuzzer.ts";
import { makeTargets, type Target } from "../fuzz/targets.ts";
import { watch } from "../fuzz/watchdog.ts";

/** Runs inputs until the time is over or something is found. */
function runFor(milliseconds: number, fuzzer: Fuzzer): { finding: Finding | undefined; inputs: number } {
  const end = performance.now() + milliseconds;
  let inputs = 0;
  while (performance.now() < end) {
    inputs++;
    const finding = fuzzer.run(fuzzer.next());
    if (finding !== undefined) return { finding, inputs };
  }
  return { finding: undefined, inputs };
}

function target(run: (input: Uint8Array) => void): Target {
  const expects = (error: unknown) => error instanceof RejectionError;
  return { name: "planted", corpus: [new Uint8Array(64).fill(1)], run, weight: 1, expects };
}

describe("mutated input", () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const seconds = process.env["SLOW"] === "1" ? 60 : 5;

  test(`is refused everywhere with a code, changes nothing and ends soon (${seconds} s, seed ${seed})`, () => {
    const { finding, inputs } = runFor(seconds * 1000, new Fuzzer(makeTargets(seed), freshProgress(seed)));
    expect(finding).toBeUndefined();
    expect(inputs).toBeGreaterThan(500);
  });

  test("good inputs are accepted, so that mutations begin at something", () => {
    for (const { name, corpus, run } of makeTargets(7)) {
      const accepted = corpus.filter((input) => {
        try {
          run(input);
          return true;
        } catch {
          return false;
        }
      });
      expect([name, accepted.length > 0]).toEqual([name, true]);
    }
  });
});

describe("a planted fault is found", () => {
  const planted: [string, (input: Uint8Array) => void, RegExp][] = [
    [
      "an error of the platform",
      (input) => {
        if (input[3] === 0xbf) (undefined as unknown as Uint8Array).slice();
      },
      /^threw TypeError/,
    ],
    [
      "an input that takes long",
      (input) => {
        const end = performance.now() + bounds.milliseconds + 10;
        if (input.length === 63) while (performance.now() < end);
      },
      /^took \d+ ms$/,
    ],
    [
      "an input that takes much memory",
      (input) => {
        if (input.length === 62) held.push(new Uint8Array(bounds.bytes + 1_000_000).fill(1));
      },
      /^took \d+ MB$/,
    ],
    [
      "memory that grows a little with every input",
      () => {
        held.push(new Uint8Array(bounds.bytes / 2).fill(1));
      },
      /^the run has grown by \d+ MB$/,
    ],
  ];
  const held: Uint8Array[] = [];

  test.each(planted)("%s", (_, run, what) => {
    const { finding } = runFor(20_000, new Fuzzer([target(run)], freshProgress(1)));
    held.length = 0;
    expect(finding?.what).toMatch(what);
  });

  test("an input that never ends", async () => {
    const findings: Finding[] = [];
    const inputs = await watch(new URL("../fuzz/stuck-worker.ts", import.meta.url), freshProgress(5), 1_000, {
      hangMs: 500,
      found: (finding) => findings.push(finding),
      reached: () => {},
      enough: () => false,
    });
    expect(findings).toEqual([
      { target: "planted", seed: 5, number: 7, what: "did not end within 500 ms", input: "010203" },
    ]);
    expect(inputs).toBe(8);
  });

  test("inputs are the same again, also when a run goes on where another one ended", () => {
    const inputs = (fuzzer: Fuzzer, count: number) =>
      Array.from({ length: count }, () => {
        const next = fuzzer.next();
        fuzzer.run(next);
        return Buffer.from(next.input).toString("hex");
      });
    const picky = target((input) => {
      throw new RejectionError(`test/${input.length}`);
    });
    const whole = inputs(new Fuzzer([picky], freshProgress(5)), 200);
    const first = new Fuzzer([picky], freshProgress(5));
    const parts = inputs(first, 120);
    parts.push(...inputs(new Fuzzer([picky], first.progress), 80));
    expect(parts).toEqual(whole);
    expect(attempt(picky, new Uint8Array(3))).toEqual({ code: "test/3", wrong: undefined });
  });
});
