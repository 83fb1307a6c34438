import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, cpus, platform, release, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { median } from "./median.ts";
import { measurePrimitives, type PrimitiveCosts } from "./mls/primitives.ts";
import type { Machine } from "./mls/rows.ts";

export function describeMachine(): Machine {
  const cores = cpus();
  return {
    cpu: cores[0]?.model.trim() ?? "unknown",
    cores: cores.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    os: `${platform()} ${release()} ${arch()}`,
  };
}

const require = createRequire(import.meta.url);

/** The version in a package's package.json, found from its entry point upwards. */
export function packageVersion(name: string): string {
  let folder = dirname(require.resolve(name));
  for (;;) {
    try {
      const manifest = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      if (manifest.name === name) return manifest.version;
    } catch {
      // Not in this folder.
    }
    const parent = dirname(folder);
    if (parent === folder) return "unknown";
    folder = parent;
  }
}

/** Of everything that is measured. */
export function packageVersions(): Record<string, string> {
  return {
    node: process.versions.node,
    openssl: process.versions.openssl,
    murmuration: packageVersion("@murmuration/mls-groups"),
    libsignal: packageVersion("@signalapp/libsignal-client"),
    "ts-mls": packageVersion("ts-mls"),
  };
}

/** How fast the machine is while a run lasts: primitives between its parts, of which the median counts. */
export class MachineSpeed {
  private readonly taken: PrimitiveCosts[] = [];

  take(): void {
    this.taken.push(measurePrimitives());
  }

  primitivesUs(): Record<string, number> {
    const names = Object.keys(this.taken[0] ?? {}) as (keyof PrimitiveCosts)[];
    return Object.fromEntries(
      names.map((name) => [name, Number(median(this.taken.map((costs) => costs[name])).toPrecision(4))]),
    );
  }
}
