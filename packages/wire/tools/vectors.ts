/**
 * Fills in `hex` where a wire vector in spec-vectors/wire lacks it. The bytes are made by protobufjs's
 * reflection straight from the .proto files, not by this package's codec, so that the vectors test the codec.
 * To add a vector: write name, message, meaning and value into a file, run this, and review the bytes.
 */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import protobuf from "protobufjs";

const here = join(dirname(fileURLToPath(import.meta.url)), "..");
const vectorsFolder = join(here, "..", "..", "spec-vectors", "wire");

/** One entry of messages.json and frames.json; bytes in `value` are hexadecimal. */
export interface WireVector {
  readonly name: string;
  /** Name in the .proto files. */
  readonly message: string;
  readonly from?: "client" | "service";
  readonly meaning: string;
  readonly value: Readonly<Record<string, unknown>>;
  readonly hex?: string;
}

/** The schema, read from the .proto files by protobufjs itself. */
export function readSchema(): protobuf.Root {
  const root = new protobuf.Root();
  const folder = join(here, "proto");
  for (const name of readdirSync(folder).sort()) {
    // Imports are resolved by loading every file; their import lines need no path of their own.
    protobuf.parse(readFileSync(join(folder, name), "utf8"), root);
  }
  root.resolveAll();
  return root;
}

/** Replaces hexadecimal by bytes wherever the schema says bytes. */
export function withBytes(
  type: protobuf.Type,
  value: Readonly<Record<string, unknown>>,
): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [key, item] of Object.entries(value)) {
    const field = type.fields[key];
    if (field === undefined) throw new Error(`${type.name} has no field ${key}`);
    const one = (part: unknown): unknown => {
      if (field.type === "bytes") return new Uint8Array(Buffer.from(part as string, "hex"));
      if (field.resolvedType instanceof protobuf.Type) {
        return withBytes(field.resolvedType, part as Record<string, unknown>);
      }
      return part;
    };
    out[key] = Array.isArray(item) ? item.map(one) : one(item);
  }
  return out;
}

/** Encodes a vector's value by reflection. Enum names are those of the .proto files. */
export function encodeByReflection(root: protobuf.Root, vector: WireVector): string {
  const type = root.lookupType(`murmuration.wire.v1.${vector.message}`);
  const message = type.fromObject(withBytes(type, vector.value));
  return Buffer.from(type.encode(message).finish()).toString("hex");
}

export function readVectors(file: string): WireVector[] {
  return JSON.parse(readFileSync(join(vectorsFolder, file), "utf8")) as WireVector[];
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const root = readSchema();
  for (const file of ["messages.json", "frames.json"]) {
    const filled = readVectors(file).map((vector) => ({
      ...vector,
      hex: vector.hex ?? encodeByReflection(root, vector),
    }));
    writeFileSync(join(vectorsFolder, file), `${JSON.stringify(filled, null, 2)}\n`);
  }
}
