/**
 * The import direction of ARCHITECTURE.md as a check. Each area names what its `src` may import: packages of
 * ours (with the exact entry points), npm packages, and node: modules that mean I/O and belong in adapters.
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { dirname, join, relative, resolve, sep } from "node:path";
import { fileURLToPath } from "node:url";

interface Area {
  /** Workspace imports, exact specifiers. */
  readonly ours: readonly string[];
  /** npm packages, by package name. */
  readonly npm: readonly string[];
  /** I/O modules and the path fragments of the files that may use them. */
  readonly io: readonly string[];
}

const NONE: Area = { ours: [], npm: [], io: [] };
const base = "@murmuration/base";
const wire = "@murmuration/wire";

export const areas: Readonly<Record<string, Area>> = {
  "packages/base": NONE,
  "packages/wire": { ours: [base], npm: ["protobufjs"], io: [] },
  "packages/pairwise": { ours: [base, wire], npm: ["@signalapp/libsignal-client"], io: [] },
  "packages/mls-groups": {
    ours: [base],
    npm: ["@noble/ciphers", "@noble/curves", "@noble/hashes"],
    io: [],
  },
  "packages/delivery-service": {
    ours: [base, wire, "@murmuration/mls-groups/public-group", "@murmuration/pairwise/server"],
    npm: ["ws", "pino", "prom-client", "pg", "ioredis"],
    io: ["adapters/", "main.ts", "worker", "local-engines/"],
  },
  "packages/push-gateway": {
    ours: [base, "@murmuration/wire/push"],
    npm: ["pino", "web-push", "@parse/node-apn", "google-auth-library"],
    io: ["adapters/", "main.ts"],
  },
  "packages/client-core": {
    ours: [base, wire, "@murmuration/wire/push", "@murmuration/pairwise", "@murmuration/mls-groups"],
    npm: ["@signalapp/sqlcipher", "@noble/hashes", "ws"],
    io: ["adapters/"],
  },
  "packages/simulation": {
    ours: [
      base,
      wire,
      "@murmuration/client-core",
      "@murmuration/delivery-service",
      "@murmuration/delivery-service/local-engines",
    ],
    npm: [],
    io: [""],
  },
  "apps/reference-client": {
    ours: [base, wire, "@murmuration/client-core", "@murmuration/delivery-service"],
    npm: [],
    io: [""],
  },
  bench: {
    ours: [
      base,
      wire,
      "@murmuration/mls-groups",
      "@murmuration/mls-groups/bench",
      "@murmuration/mls-groups/portable",
      "@murmuration/mls-groups/public-group",
      "@murmuration/pairwise",
      "@murmuration/pairwise/bench",
      "@murmuration/client-core",
      "@murmuration/client-core/bench",
      "@murmuration/delivery-service",
      "@murmuration/delivery-service/bench",
      "@murmuration/delivery-service/local-engines",
      "@murmuration/spec-vectors",
    ],
    npm: [
      "ts-mls",
      "@noble/curves",
      "@noble/hashes",
      "@noble/ciphers",
      "echarts",
      "mqtt",
      "@nats-io/transport-node",
    ],
    io: [""],
  },
  "spec-vectors": {
    ours: [],
    npm: ["ts-mls", "@hpke/core", "@noble/ciphers", "@noble/curves", "@noble/hashes"],
    io: [""],
  },
};

const IO_MODULES = /^node:(?:fs|net|http|https|tls|dgram|sqlite|child_process|worker_threads|cluster|dns)\b/;
const IO_PACKAGES = new Set(["ws", "pg", "ioredis", "@signalapp/sqlcipher", "pino", "prom-client"]);
const SPECIFIER =
  /(?:^|\n)\s*(?:import|export)\b[^;"'`=]*?\bfrom\s*["']([^"']+)["']|(?:^|\n)\s*import\s*["']([^"']+)["']|\bimport\(\s*["']([^"']+)["']/g;

function packageName(specifier: string): string {
  const parts = specifier.split("/");
  return specifier.startsWith("@") ? `${parts[0]}/${parts[1]}` : parts[0]!;
}

/** Why `file` (path from the root, with /) may not import `specifier`; undefined when it may. */
export function forbidden(file: string, specifier: string): string | undefined {
  const name = Object.keys(areas).find((area) => file.startsWith(`${area}/src/`));
  if (name === undefined) return undefined;
  const area = areas[name]!;
  const inner = file.slice(`${name}/src/`.length);
  const mayDoIo = area.io.some((fragment) => inner.includes(fragment));
  if (specifier.startsWith(".")) {
    const target = join(dirname(file), specifier).split(sep).join("/");
    return target.startsWith(`${name}/`) ? undefined : "relative import leaves its package";
  }
  if (specifier.startsWith("node:")) {
    return IO_MODULES.test(specifier) && !mayDoIo ? "I/O belongs in an adapter" : undefined;
  }
  const known = specifier.startsWith("@murmuration/")
    ? area.ours.includes(specifier)
    : area.npm.includes(packageName(specifier));
  if (!known) return "not in this package's list of imports (tools/import-rules.ts)";
  return IO_PACKAGES.has(packageName(specifier)) && !mayDoIo ? "I/O belongs in an adapter" : undefined;
}

/** Every specifier that a source text imports or re-exports. */
export function specifiersOf(source: string): string[] {
  return [...source.matchAll(SPECIFIER)].map((match) => (match[1] ?? match[2] ?? match[3])!);
}

function* sources(directory: string): Generator<string> {
  for (const entry of readdirSync(directory)) {
    if (entry === "node_modules" || entry === "dist" || entry === "generated") continue;
    const path = join(directory, entry);
    if (statSync(path).isDirectory()) yield* sources(path);
    else if (/\.[mc]?tsx?$/.test(entry)) yield path;
  }
}

function main(): void {
  const root = resolve(dirname(fileURLToPath(import.meta.url)), "..");
  let files = 0;
  const complaints: string[] = [];
  for (const area of Object.keys(areas)) {
    for (const path of sources(join(root, area, "src"))) {
      files++;
      const file = relative(root, path).split(sep).join("/");
      for (const specifier of specifiersOf(readFileSync(path, "utf8"))) {
        const reason = forbidden(file, specifier);
        if (reason !== undefined) complaints.push(`${file}: "${specifier}": ${reason}`);
      }
    }
  }
  for (const complaint of complaints) console.error(complaint);
  console.log(`import rules: ${files} files, ${complaints.length} violations`);
  process.exitCode = complaints.length === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) main();
