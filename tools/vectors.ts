/**
 * `npm run vectors -- --dir FOLDER [--provider native|portable|both]`: runs every file of a folder that has one of
 * the official MLS test vector formats, recognised by its name or else by the fields of its first case. Closes with
 * `N passed, N failed`. Exit 0 when all passed, 1 when something failed, 2 on wrong usage.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { MurmurationError } from "@murmuration/base";
import { nativeCrypto } from "../packages/mls-groups/src/crypto/native.ts";
import { portableCrypto } from "../packages/mls-groups/src/crypto/portable.ts";
import { requireCipherSuite } from "../packages/mls-groups/src/crypto/suites.ts";
import { runCryptoBasics } from "../packages/mls-groups/src/vectors/crypto-basics.ts";
import { verifyDeserialization } from "../packages/mls-groups/src/vectors/deserialization.ts";
import type { MakeProvider } from "../packages/mls-groups/src/vectors/expect.ts";
import { runKeySchedule } from "../packages/mls-groups/src/vectors/key-schedule.ts";
import { verifyMessageProtection } from "../packages/mls-groups/src/vectors/message-protection.ts";
import { verifyMessages } from "../packages/mls-groups/src/vectors/messages.ts";
import { runPassiveClient } from "../packages/mls-groups/src/vectors/passive-client.ts";
import { runPskSecret } from "../packages/mls-groups/src/vectors/psk-secret.ts";
import { runSecretTree } from "../packages/mls-groups/src/vectors/secret-tree.ts";
import { runTranscriptHashes } from "../packages/mls-groups/src/vectors/transcript-hashes.ts";
import { runTreeMath } from "../packages/mls-groups/src/vectors/tree-math.ts";
import { runTreeOperations } from "../packages/mls-groups/src/vectors/tree-operations.ts";
import { runTreeValidation } from "../packages/mls-groups/src/vectors/tree-validation.ts";
import { runTreeKem } from "../packages/mls-groups/src/vectors/treekem.ts";
import { runWelcome } from "../packages/mls-groups/src/vectors/welcome.ts";

const USAGE =
  "Usage: npm run vectors -- --dir FOLDER [--provider native|portable|both], FOLDER holding JSON files in the official formats.";

class WrongUsage extends Error {}

interface Format {
  /** Name of its file without `.json`; what is longer and goes on after a hyphen is one of its files too. */
  readonly name: string;
  /** Fields that together no other format has. */
  readonly fields: readonly string[];
  /** Throws when the case does not hold. The type of the vector is the runner's to check. */
  readonly run: (vector: never, make: MakeProvider) => void;
  /** Whether the result can depend on the crypto provider. */
  readonly cryptographic: boolean;
}

const formats: readonly Format[] = [
  crypto("crypto-basics", ["ref_hash", "expand_with_label"], runCryptoBasics),
  plain("deserialization", ["vlbytes_header", "length"], verifyDeserialization),
  crypto("key-schedule", ["initial_init_secret", "epochs"], runKeySchedule),
  crypto("message-protection", ["membership_key", "application_priv"], (vector, make) =>
    verifyMessageProtection(vector, (suite) => make(requireCipherSuite(suite).id)),
  ),
  plain("messages", ["mls_welcome", "mls_group_info"], verifyMessages),
  crypto("psk-secret", ["psks", "psk_secret"], runPskSecret),
  crypto("secret-tree", ["sender_data", "leaves"], runSecretTree),
  crypto("transcript-hashes", ["authenticated_content", "confirmation_key"], runTranscriptHashes),
  plain("tree-math", ["n_leaves", "n_nodes"], runTreeMath),
  crypto("tree-operations", ["tree_before", "tree_after"], runTreeOperations),
  crypto("tree-validation", ["tree_hashes", "resolutions"], runTreeValidation),
  crypto("treekem", ["leaves_private", "update_paths"], runTreeKem),
  crypto("welcome", ["signer_pub", "welcome"], runWelcome),
  crypto("passive-client", ["initial_epoch_authenticator", "external_psks"], runPassiveClient),
];

function crypto(name: string, fields: readonly string[], run: Format["run"]): Format {
  return { name, fields, run, cryptographic: true };
}

function plain(name: string, fields: readonly string[], run: Format["run"]): Format {
  return { name, fields, run, cryptographic: false };
}

type ProviderName = "native" | "portable";
const makers: Readonly<Record<ProviderName, MakeProvider>> = {
  native: (suite) => nativeCrypto(suite),
  portable: (suite) => portableCrypto(suite),
};

interface Arguments {
  readonly folder: string;
  readonly providers: readonly ProviderName[];
}

function parseArguments(args: readonly string[]): Arguments {
  const given = new Map<string, string>();
  for (let i = 0; i < args.length; i += 2) {
    const [name, value] = [args[i]!, args[i + 1]];
    if (!["--dir", "--provider"].includes(name) || value === undefined || given.has(name)) {
      throw new WrongUsage(USAGE);
    }
    given.set(name, value);
  }
  const folder = given.get("--dir");
  if (folder === undefined) throw new WrongUsage(USAGE);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
    throw new WrongUsage(`--dir must name a folder that exists; ${folder} is none.`);
  }
  return { folder, providers: providersNamed(given.get("--provider") ?? "native") };
}

function providersNamed(name: string): ProviderName[] {
  if (name === "both") return ["native", "portable"];
  if (name === "native" || name === "portable") return [name];
  throw new WrongUsage(USAGE);
}

/** Files below the folder in a stable order; those whose names begin with a dot are the file system's business. */
function filesOf(folder: string): string[] {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && !entry.name.startsWith("."))
    .map((entry) => join(entry.parentPath, entry.name).slice(join(folder, "/").length));
  if (files.length === 0) throw new WrongUsage("The folder of --dir holds no file.");
  return files.sort();
}

function formatOf(file: string, first: unknown): Format | undefined {
  const base = file
    .replace(/^.*[/\\]/, "")
    .replace(/\.json$/, "")
    .replaceAll("_", "-");
  const byName = formats.find(({ name }) => base === name || base.startsWith(`${name}-`));
  if (byName !== undefined) return byName;
  if (typeof first !== "object" || first === null) return undefined;
  return formats.find(({ fields }) => fields.every((field) => field in first));
}

class Run {
  passed = 0;
  failed = 0;
  readonly #providers: readonly ProviderName[];

  constructor(providers: readonly ProviderName[]) {
    this.#providers = providers;
  }

  fail(what: string, why: string): void {
    this.failed++;
    say(`FAILED ${what}: ${why}`);
  }

  file(folder: string, file: string): void {
    const cases = parse(join(folder, file));
    const format = typeof cases === "string" ? undefined : formatOf(file, cases[0]);
    if (typeof cases === "string") this.fail(file, cases);
    else if (format === undefined) this.fail(file, "not one of the official formats");
    else if (cases.length === 0) this.fail(file, "holds no case");
    else this.#cases(file, format, cases);
  }

  #cases(file: string, format: Format, cases: readonly unknown[]): void {
    const before = { passed: this.passed, failed: this.failed };
    const skipped = new Map<number, number>();
    for (const [index, vector] of cases.entries()) {
      const suite = foreignSuite(vector);
      if (suite === undefined) this.#case(file, format, index, cases.length, vector);
      else skipped.set(suite, (skipped.get(suite) ?? 0) + 1);
    }
    say(`${file}: ${this.passed - before.passed} passed, ${this.failed - before.failed} failed`);
    for (const [suite, count] of skipped) {
      say(`${file}: ${count} skipped, cipher suite ${suite} is none of RFC 9420`);
    }
  }

  #case(file: string, format: Format, index: number, count: number, vector: unknown): void {
    for (const provider of format.cryptographic ? this.#providers : (["native"] as const)) {
      progress(`${file} ${index + 1}/${count} ${provider}`);
      try {
        format.run(vector as never, makers[provider]);
        this.passed++;
      } catch (error) {
        const on = format.cryptographic && this.#providers.length > 1 ? ` on the ${provider} provider` : "";
        this.fail(`${file} case ${index}${on}`, explanation(error));
      }
    }
  }
}

/** The cases, or what is wrong with the file. */
function parse(path: string): readonly unknown[] | string {
  try {
    const content: unknown = JSON.parse(readFileSync(path, "utf8"));
    return Array.isArray(content) ? content : "not a JSON array";
  } catch (error) {
    return error instanceof SyntaxError ? "not JSON" : "cannot be read";
  }
}

/** The cipher suite of a case that RFC 9420 does not define; such cases are left out. */
function foreignSuite(vector: unknown): number | undefined {
  if (typeof vector !== "object" || vector === null || !("cipher_suite" in vector)) return undefined;
  const suite = vector.cipher_suite;
  return typeof suite === "number" && !(suite >= 1 && suite <= 7) ? suite : undefined;
}

/** Vectors hold no secrets, so the message may show what was expected; only its length is bounded. */
function explanation(error: unknown): string {
  if (error instanceof MurmurationError) return error.message;
  const message = error instanceof Error ? error.message : String(error);
  return message.length > 300 ? `${message.slice(0, 300)}...` : message;
}

let progressShown = false;

function progress(text: string): void {
  if (!process.stderr.isTTY) return;
  process.stderr.write(`\r\x1b[K${text}`);
  progressShown = true;
}

function say(line: string): void {
  if (progressShown) process.stderr.write("\r\x1b[K");
  progressShown = false;
  process.stdout.write(`${line}\n`);
}

function main(): number {
  try {
    const { folder, providers } = parseArguments(process.argv.slice(2));
    const run = new Run(providers);
    for (const file of filesOf(folder)) run.file(folder, file);
    say(`${run.passed} passed, ${run.failed} failed`);
    return run.failed === 0 ? 0 : 1;
  } catch (error) {
    if (!(error instanceof WrongUsage)) throw error;
    process.stderr.write(`${error.message}\n`);
    return 2;
  }
}

process.exitCode = main();
