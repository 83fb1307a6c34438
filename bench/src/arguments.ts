import { UsageError } from "@murmuration/base";

/** What a sub-command accepts: flags that take a value, and flags that stand alone. */
export interface ArgumentSpecification {
  readonly values: readonly string[];
  readonly switches: readonly string[];
  /** Arguments without a flag, by name, all required. */
  readonly positional: readonly string[];
}

export interface Arguments {
  readonly values: ReadonlyMap<string, string>;
  readonly switches: ReadonlySet<string>;
  readonly positional: readonly string[];
}

/** Parses `--name value`, `--name=value` and switches. Throws UsageError `bench/arguments` with one sentence. */
export function parseArguments(argv: readonly string[], specification: ArgumentSpecification): Arguments {
  const values = new Map<string, string>();
  const switches = new Set<string>();
  const positional: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    const argument = argv[i]!;
    if (!argument.startsWith("--")) {
      positional.push(argument);
      continue;
    }
    const [name, inline] = splitFlag(argument);
    if (specification.switches.includes(name) && inline === undefined) switches.add(name);
    else if (specification.values.includes(name)) {
      const value = inline ?? argv[++i];
      if (value === undefined || value.startsWith("--")) throw usage(`--${name} needs a value`);
      values.set(name, value);
    } else throw usage(`unknown option ${argument}`);
  }
  if (positional.length !== specification.positional.length) {
    const wanted = specification.positional.map((name) => `<${name}>`).join(" ");
    throw usage(wanted === "" ? `unexpected argument ${positional[0]}` : `expected ${wanted}`);
  }
  return { values, switches, positional };
}

function splitFlag(argument: string): [string, string | undefined] {
  const equals = argument.indexOf("=");
  return equals < 0
    ? [argument.slice(2), undefined]
    : [argument.slice(2, equals), argument.slice(equals + 1)];
}

export function usage(sentence: string): UsageError {
  return new UsageError("bench/arguments", sentence);
}

/** A list of whole numbers, each within the bounds, such as `64,256,1000`. */
export function parseSizes(text: string, flag: string, least: number, most: number): number[] {
  return text.split(",").map((part) => parseCount(part, flag, least, most));
}

function parseCount(text: string, flag: string, least: number, most: number): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < least || value > most) {
    throw usage(`--${flag} takes whole numbers from ${least} to ${most}, not "${text}"`);
  }
  return value;
}
