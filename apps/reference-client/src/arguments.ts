/**
 * From an argument list to a command, its options and operands, or to a help text. Pure: what is wrong is said
 * by a WrongUsage with one sentence, which main prints before it exits with 2.
 */
import { parseArgs } from "node:util";

/** The command line cannot be understood. The message is one sentence for the user. */
export class WrongUsage extends Error {}

export interface OptionSpec {
  /** What the help shows for the value, in capitals; absent for a flag. */
  readonly value?: string;
  readonly help: string;
  /** The value is a whole number within these bounds. */
  readonly between?: readonly [min: number, max: number];
  /** The value is one of these words. */
  readonly oneOf?: readonly string[];
}

export interface OperandSpec {
  /** In capitals. */
  readonly name: string;
  readonly optional?: true;
  /** Takes all that follow; only for the last one. */
  readonly many?: true;
}

export interface CommandSpec {
  /** `["group", "create"]` for `murmuration group create`. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly operands: readonly OperandSpec[];
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** Works without a client: the options about its home folder are left out. */
  readonly homeless?: true;
  /** More to know, below the options. */
  readonly notes?: string;
}

interface Parsed<Spec extends CommandSpec> {
  readonly kind: "run";
  readonly spec: Spec;
  readonly options: Options;
  readonly operands: readonly string[];
}

export type CommandLine<Spec extends CommandSpec> =
  | Parsed<Spec>
  | { readonly kind: "help"; readonly text: string };

const PROGRAM = "murmuration";

const helpOption: Readonly<Record<string, OptionSpec>> = { help: { help: "show this text" } };
const homeOptions: Readonly<Record<string, OptionSpec>> = {
  home: { value: "DIR", help: "folder of this client's key and database (default: ~/.murmuration)" },
  "passphrase-file": {
    value: "FILE",
    help: "file whose first line unlocks the database (default: a key file in the home folder)",
  },
};

function allOptions(spec: CommandSpec): Readonly<Record<string, OptionSpec>> {
  return { ...spec.options, ...(spec.homeless ? {} : homeOptions), ...helpOption };
}

/** The values given for a command's options. */
export class Options {
  private readonly values: Readonly<Record<string, string | boolean | undefined>>;

  constructor(values: Readonly<Record<string, string | boolean | undefined>>) {
    this.values = values;
  }

  flag(name: string): boolean {
    return this.values[name] === true;
  }

  text(name: string): string | undefined {
    const value = this.values[name];
    return typeof value === "string" ? value : undefined;
  }

  /** The whole number of an option that has `between`; undefined where it was not given. */
  integer(name: string): number | undefined {
    const text = this.text(name);
    return text === undefined ? undefined : Number(text);
  }
}

function checkValue(name: string, value: string, { between, oneOf }: OptionSpec): void {
  if (value === "") throw new WrongUsage(`--${name} needs a value that is not empty.`);
  if (oneOf !== undefined && !oneOf.includes(value)) {
    throw new WrongUsage(`--${name} takes one of ${oneOf.join(", ")}, not "${value}".`);
  }
  if (between === undefined) return;
  const [min, max] = between;
  if (!/^\d{1,16}$/.test(value) || Number(value) < min || Number(value) > max) {
    throw new WrongUsage(`--${name} takes a whole number from ${min} to ${max}, not "${value}".`);
  }
}

/** Parses the arguments behind the program's name. Throws WrongUsage. */
export function parseCommandLine<Spec extends CommandSpec>(
  argv: readonly string[],
  specs: readonly Spec[],
): CommandLine<Spec> {
  const words = leadingWords(argv);
  if (words.length === 0) {
    if (argv.length > 0 && !argv.includes("--help")) {
      throw new WrongUsage(`The first argument must be a command, not "${argv[0]}"; see ${PROGRAM} --help.`);
    }
    return { kind: "help", text: overview(specs) };
  }
  const spec = specs.find(({ path }) => path.every((word, index) => words[index] === word));
  if (spec === undefined) return withoutCommand(words, argv, specs);
  return parseFor(spec, argv.slice(spec.path.length));
}

function leadingWords(argv: readonly string[]): readonly string[] {
  const end = argv.findIndex((argument) => argument.startsWith("-"));
  return end === -1 ? argv : argv.slice(0, end);
}

function withoutCommand<Spec extends CommandSpec>(
  words: readonly string[],
  argv: readonly string[],
  specs: readonly Spec[],
): CommandLine<Spec> {
  const family = specs.filter(({ path }) => path.length > 1 && path[0] === words[0]);
  if (words.length === 1 && words[0] === "help") return { kind: "help", text: overview(specs) };
  if (family.length === 0) {
    throw new WrongUsage(`There is no command "${words[0]}"; see ${PROGRAM} --help.`);
  }
  if (words.length === 1 && argv.includes("--help")) return { kind: "help", text: overview(family) };
  const choices = family.map(({ path }) => path.slice(1).join(" ")).join(", ");
  throw new WrongUsage(`"${PROGRAM} ${words[0]}" goes on with one of: ${choices}.`);
}

function parseFor<Spec extends CommandSpec>(spec: Spec, argv: readonly string[]): CommandLine<Spec> {
  const options = allOptions(spec);
  const { values, positionals } = strictly(spec, argv, options);
  if (values["help"] === true) return { kind: "help", text: help(spec) };
  for (const [name, value] of Object.entries(values)) {
    if (typeof value === "string") checkValue(name, value, options[name]!);
  }
  checkOperands(spec, positionals);
  return { kind: "run", spec, options: new Options(values), operands: positionals };
}

function strictly(
  spec: CommandSpec,
  argv: readonly string[],
  options: Readonly<Record<string, OptionSpec>>,
): { values: Record<string, string | boolean | undefined>; positionals: string[] } {
  const config = Object.fromEntries(
    Object.entries(options).map(([name, option]) => [
      name,
      { type: option.value === undefined ? ("boolean" as const) : ("string" as const) },
    ]),
  );
  const end = argv.indexOf("--");
  const args = argv.map((argument, i) =>
    (end === -1 || i < end) && isNoOption(argument, options) ? `${SHIELD}${argument}` : argument,
  );
  try {
    const parsed = parseArgs({ args, options: config, allowPositionals: true, strict: true });
    const values = Object.entries(parsed.values).map(([name, value]) => [
      name,
      typeof value === "string" ? unshield(value) : value,
    ]);
    return { values: Object.fromEntries(values), positionals: parsed.positionals.map(unshield) };
  } catch (error) {
    const [first] = (error as Error).message.split(/[.\n]/);
    throw new WrongUsage(`${first}; see ${PROGRAM} ${spec.path.join(" ")} --help.`);
  }
}

/** Before an argument that begins like an option and is none; no argument of a process has such a character. */
const SHIELD = "\0";

/**
 * Every option begins with two dashes, but so may an id: 22 of the characters that base64url has, one of which is the
 * dash.
 */
function isNoOption(argument: string, options: Readonly<Record<string, OptionSpec>>): boolean {
  if (!argument.startsWith("-")) return false;
  return !argument.startsWith("--") || (/^--[\w-]{20}$/.test(argument) && !(argument.slice(2) in options));
}

function unshield(value: string): string {
  return value.startsWith(SHIELD) ? value.slice(SHIELD.length) : value;
}

function checkOperands(spec: CommandSpec, operands: readonly string[]): void {
  const command = `${PROGRAM} ${spec.path.join(" ")}`;
  const missing = spec.operands.find((operand, index) => !operand.optional && operands[index] === undefined);
  if (missing !== undefined) throw new WrongUsage(`${command} needs ${missing.name}; see ${command} --help.`);
  const many = spec.operands.at(-1)?.many === true;
  const extra = operands[spec.operands.length];
  if (extra !== undefined && !many) {
    throw new WrongUsage(`${command} does not know what to do with "${extra}"; see ${command} --help.`);
  }
  if (operands.includes("")) throw new WrongUsage(`${command} was given an empty argument.`);
}

function usageLine(spec: CommandSpec): string {
  const operands = spec.operands.map(({ name, optional, many }) => {
    const shown = many ? `${name}...` : name;
    return optional ? `[${shown}]` : shown;
  });
  const options = Object.entries(spec.options).map(([name, { value }]) =>
    value === undefined ? `[--${name}]` : `[--${name} ${value}]`,
  );
  return [PROGRAM, ...spec.path, ...operands, ...options].join(" ");
}

function columns(rows: ReadonlyArray<readonly [string, string]>): string {
  const width = Math.max(...rows.map(([left]) => left.length)) + 2;
  return rows.map(([left, right]) => `  ${left.padEnd(width)}${right}`).join("\n");
}

/** The help of one command. */
export function help(spec: CommandSpec): string {
  const options = Object.entries(allOptions(spec)).map(
    ([name, option]) =>
      [option.value === undefined ? `--${name}` : `--${name} ${option.value}`, option.help] as const,
  );
  const parts = [spec.summary, `Usage: ${usageLine(spec)}`, `Options:\n${columns(options)}`];
  if (spec.notes !== undefined) parts.push(spec.notes);
  return `${parts.join("\n\n")}\n`;
}

/** All commands with a line each. */
function overview(specs: readonly CommandSpec[]): string {
  const rows = specs.map((spec) => [spec.path.join(" "), spec.summary] as const);
  return [
    "End-to-end encrypted messaging for large groups: the reference client.",
    `Usage: ${PROGRAM} COMMAND [ARGUMENTS]`,
    `Commands:\n${columns(rows)}`,
    `${PROGRAM} COMMAND --help tells more about each.`,
    "Exit: 0 done, 1 failed, 2 wrong usage, 3 the delivery service cannot be reached.\n",
  ].join("\n\n");
}
