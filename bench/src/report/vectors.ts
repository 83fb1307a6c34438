/** Which official vectors run and how many pass, by the project's own runner (`npm run vectors`). */
import { spawn } from "node:child_process";
import { dirname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import {
  knownAnswers,
  loadVectors,
  manifest,
  OFFICIAL_COMMIT,
  type VectorName,
} from "@murmuration/spec-vectors";
import type { VectorRow, VectorsSection } from "./schema.ts";

const root = resolve(fileURLToPath(import.meta.url), "../../../..");

interface Source {
  readonly source: VectorRow["source"];
  readonly folder: string;
  readonly files: readonly { readonly file: VectorName; readonly cases: number }[];
}

/** The lines of the runner for one file: `NAME.json: 7 passed, 0 failed` and `NAME.json: 3 skipped, ...`. */
function countOf(output: string, file: string, what: string): number {
  const line = new RegExp(`^${file}\\.json: (?:\\d+ passed, )?(\\d+) ${what}`, "m").exec(output);
  return Number(line?.[1] ?? 0);
}

/** The runner's rows of one folder. */
export function rowsOf({ files, source }: Omit<Source, "folder">, output: string): VectorRow[] {
  return files.map(({ cases, file }) => {
    const counts = {
      passed: countOf(output, file, "passed"),
      failed: countOf(output, file, "failed"),
      skipped: countOf(output, file, "skipped"),
    };
    const missing =
      counts.passed + counts.failed + counts.skipped === 0 ? { missing: "the runner ran no case" } : {};
    return { source, file, cases, ...counts, ...missing };
  });
}

export class VectorRun {
  private child: ReturnType<typeof spawn> | undefined;
  private stopped = false;

  /** Runs every file that is on this machine. Never touches the network. */
  async run(): Promise<VectorsSection> {
    const { absent, sources } = findVectors();
    const rows: VectorRow[] = [];
    for (const source of sources) rows.push(...rowsOf(source, await this.runner(source.folder)));
    rows.push(...absent);
    const sum = (of: (row: VectorRow) => number) => rows.reduce((total, row) => total + of(row), 0);
    return {
      officialCommit: OFFICIAL_COMMIT,
      rows,
      passed: sum(({ passed }) => passed),
      failed: sum(({ failed }) => failed),
    };
  }

  private runner(folder: string): Promise<string> {
    if (this.stopped) return Promise.resolve("");
    return new Promise((done, failed) => {
      const child = spawn(
        process.execPath,
        [...process.execArgv, resolve(root, "tools/vectors.ts"), "--dir", folder],
        { stdio: ["ignore", "pipe", "ignore"] },
      );
      this.child = child;
      let output = "";
      child.stdout.on("data", (piece: Buffer) => {
        output += piece.toString("utf8");
      });
      child.on("error", failed);
      child.on("close", () => done(output));
    });
  }

  stop(): void {
    this.stopped = true;
    this.child?.kill("SIGKILL");
  }
}

function findVectors(): { readonly sources: readonly Source[]; readonly absent: readonly VectorRow[] } {
  const folders = new Map<string, { file: VectorName; cases: number }[]>();
  const absent: VectorRow[] = [];
  for (const { name } of manifest) {
    const loaded = loadVectors(name);
    if ("missing" in loaded) {
      const counts = { cases: 0, passed: 0, failed: 0, skipped: 0 };
      absent.push({
        source: "official",
        file: name,
        ...counts,
        missing: `not on this machine: ${loaded.howToGet}`,
      });
      continue;
    }
    const folder = dirname(loaded.origin);
    folders.set(folder, [...(folders.get(folder) ?? []), { file: name, cases: loaded.cases.length }]);
  }
  const official = [...folders].map(([folder, files]) => ({ source: "official" as const, folder, files }));
  const known = {
    source: "known-answers" as const,
    folder: resolve(root, "spec-vectors/known-answers"),
    files: manifest
      .map(({ name }) => ({ file: name, cases: knownAnswers(name).length }))
      .filter(({ cases }) => cases > 0),
  };
  return { sources: [...official, known], absent };
}
