import { getHeapStatistics } from "node:v8";
import { type Bytes, fromHex, MurmurationError, toHex } from "@murmuration/base";
import { drawsFor, mutate } from "./mutate.ts";
import type { Target } from "./targets.ts";

/** What one input did that no input may do. */
export interface Finding {
  readonly target: string;
  readonly seed: number;
  /** Number of the input. */
  readonly number: number;
  readonly what: string;
  /** In hexadecimal. */
  readonly input: string;
}

/** Where a run stands, to go on from later. */
export interface Progress {
  readonly seed: number;
  readonly inputs: number;
  /** By target, in hexadecimal: inputs that were answered in a way not seen before; they are mutated further. */
  readonly kept: Readonly<Record<string, readonly string[]>>;
}

/** An input that takes longer than this, or makes the process larger by more, is a finding. */
export const bounds = {
  milliseconds: 2_000,
  bytes: 128 * 1024 * 1024,
  /** By this a whole run may grow: more means that something is kept which nobody needs. */
  runBytes: 1024 * 1024 * 1024,
};

const KEPT_PER_TARGET = 256;

/**
 * Feeds mutated inputs to targets, one at a time. Input number n of a seed is the same in every run that went through
 * the numbers before it, here or in the run whose progress it goes on from.
 */
export class Fuzzer {
  readonly #targets: readonly Target[];
  /** Each target as often as its weight says. */
  readonly #drawn: readonly Target[];
  readonly #kept: Map<string, Uint8Array[]>;
  readonly #answers = new Set<string>();
  readonly #seed: number;
  readonly #heapAtStart: number = heapBytes();
  #inputs: number;

  constructor(targets: readonly Target[], progress: Progress) {
    this.#targets = targets;
    this.#drawn = targets.flatMap((target) => Array.from({ length: target.weight }, () => target));
    this.#seed = progress.seed;
    this.#inputs = progress.inputs;
    this.#kept = new Map(targets.map(({ name }) => [name, (progress.kept[name] ?? []).map(fromHex)]));
    for (const target of targets) {
      for (const input of this.#kept.get(target.name)!)
        this.#answers.add(answerKey(target, attempt(target, input)));
    }
  }

  get progress(): Progress {
    const kept = Object.fromEntries([...this.#kept].map(([name, inputs]) => [name, inputs.map(toHex)]));
    return { seed: this.#seed, inputs: this.#inputs, kept };
  }

  /** The next input and the target it is for; nothing has run yet. */
  next(): { readonly target: Target; readonly input: Bytes; readonly number: number } {
    const number = this.#inputs++;
    const draw = drawsFor(this.#seed, number);
    const target = this.#drawn[draw(this.#drawn.length)]!;
    const corpus = [...target.corpus, ...this.#kept.get(target.name)!];
    const other = this.#targets[draw(this.#targets.length)]!;
    const input = mutate(corpus[draw(corpus.length)]!, draw, other.corpus[draw(other.corpus.length)]!);
    return { target, input, number };
  }

  /** Runs what {@link next} returned. */
  run({ target, input, number }: ReturnType<Fuzzer["next"]>): Finding | undefined {
    const answer = attempt(target, input);
    const wrong = answer.wrong ?? this.#grown();
    if (wrong !== undefined) {
      return { target: target.name, seed: this.#seed, number, what: wrong, input: toHex(input) };
    }
    const kept = this.#kept.get(target.name)!;
    const key = answerKey(target, answer);
    if (!this.#answers.has(key) && kept.length < KEPT_PER_TARGET && input.length < 1 << 16) {
      this.#answers.add(key);
      kept.push(input);
    }
    return undefined;
  }

  #grown(): string | undefined {
    const grown = heapBytes() - this.#heapAtStart;
    if (grown <= bounds.runBytes) return undefined;
    return `the run has grown by ${Math.round(grown / 1024 / 1024)} MB`;
  }
}

/** What a target answered. */
interface Answer {
  readonly code: string;
  readonly wrong: string | undefined;
}

/** Runs one input: what was thrown, how long it took, how much memory it held on to. */
export function attempt(target: Target, input: Uint8Array): Answer {
  const heapBefore = heapBytes();
  const start = performance.now();
  let code = "accepted";
  try {
    target.run(input);
  } catch (error) {
    code = error instanceof MurmurationError ? error.code : "an error of the platform";
    if (!target.expects(error)) return { code, wrong: `threw ${firstLines(error)}` };
  }
  const took = performance.now() - start;
  if (took > bounds.milliseconds) return { code, wrong: `took ${Math.round(took)} ms` };
  const grown = heapBytes() - heapBefore;
  if (grown > bounds.bytes) return { code, wrong: `took ${Math.round(grown / 1024 / 1024)} MB` };
  return { code, wrong: undefined };
}

function heapBytes(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}

function firstLines(error: unknown): string {
  return error instanceof Error
    ? (error.stack ?? error.message).split("\n").slice(0, 5).join("\n")
    : String(error);
}

const answerKey = (target: Target, { code }: Answer): string => `${target.name} ${code}`;

/** Progress at the beginning of a seed. */
export const freshProgress = (seed: number): Progress => ({ seed, inputs: 0, kept: {} });
