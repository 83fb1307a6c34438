/**
 * `npm run inspect -- [--as NAME] FILE|HEX|BASE64`: prints an annotated view of an MLS structure. Exit 0 when it
 * decodes, 1 when it is refused (the code is on standard error), 2 on wrong usage.
 */
import { readFileSync, type Stats, statSync } from "node:fs";
import { RejectionError } from "@murmuration/base";
import {
  inspect,
  renderInspection,
  type StructureName,
  structureNames,
} from "../packages/mls-groups/src/inspect/inspect.ts";
import { defaultLimits } from "../packages/mls-groups/src/structs/limits.ts";

const USAGE = `Usage: npm run inspect -- [--as ${structureNames.join("|")}] FILE|HEX|BASE64, exactly one input.`;

class WrongUsage extends Error {}

interface Arguments {
  readonly as: StructureName | undefined;
  readonly input: string;
}

function parseArguments(args: readonly string[]): Arguments {
  const named = args[0] === "--as";
  const rest = named ? args.slice(2) : args;
  const as = structureNames.find((name) => name === args[1]);
  const input = rest[0];
  if (rest.length !== 1 || !input || input.startsWith("--") || (named && as === undefined)) {
    throw new WrongUsage(USAGE);
  }
  return { as: named ? as : undefined, input };
}

function readInput(input: string): Uint8Array {
  const file = statOf(input);
  if (file === undefined)
    return parseText(input) ?? wrongUsage("The input is no file, no hexadecimal and no base64.");
  if (!file.isFile()) return wrongUsage("The input is not a regular file.");
  if (file.size > 2 * defaultLimits.messageBytes + 2)
    return wrongUsage("The file is larger than any MLS message.");
  const content = readFile(input);
  // A text file with the encoding in it is as good as the bytes; a binary structure is never all text.
  return parseText(content.toString("latin1").trim()) ?? content;
}

/** Undefined when no file has this name; hexadecimal is often longer than any name may be. */
function statOf(path: string): Stats | undefined {
  try {
    return statSync(path, { throwIfNoEntry: false });
  } catch {
    return undefined;
  }
}

function readFile(path: string): Buffer {
  try {
    return readFileSync(path);
  } catch {
    return wrongUsage("The file cannot be read.");
  }
}

function wrongUsage(sentence: string): never {
  throw new WrongUsage(sentence);
}

function parseText(text: string): Uint8Array | undefined {
  if (/^(?:[0-9a-fA-F]{2})+$/.test(text)) return Buffer.from(text, "hex");
  if (/^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return Buffer.from(text, "base64");
  return undefined;
}

function main(): number {
  try {
    const { as, input } = parseArguments(process.argv.slice(2));
    process.stdout.write(`${renderInspection(inspect(readInput(input), as))}\n`);
    return 0;
  } catch (error) {
    if (error instanceof WrongUsage) {
      process.stderr.write(`${error.message}\n`);
      return 2;
    }
    if (error instanceof RejectionError) {
      process.stderr.write(`Refused: ${error.code}\n`);
      return 1;
    }
    throw error;
  }
}

process.exitCode = main();
