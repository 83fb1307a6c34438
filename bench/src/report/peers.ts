/** Implementations of others: measured, or why not, found out when the run asks. A peer never fails a run. */
import { createRequire } from "node:module";
import { packageVersion } from "../machine.ts";
import type { MlsReport } from "../mls/rows.ts";
import type { Peer } from "./schema.ts";

const CORE_CRYPTO = "@wireapp/core-crypto/native";

export async function findPeers(mls: MlsReport | undefined): Promise<readonly Peer[]> {
  return [tsMls(mls), await coreCrypto()];
}

function tsMls(mls: MlsReport | undefined): Peer {
  const measured = mls?.rows.some((row) => row.implementation === "ts-mls" && row.medianMs !== null) ?? false;
  const why = measured
    ? ""
    : mls === undefined
      ? "the MLS section was not run"
      : "no operation of it was measured";
  return { name: "ts-mls", version: packageVersion("ts-mls"), measured, why };
}

/** Asks Node for the package and loads it; what stands in the way is said in its own words. */
async function coreCrypto(): Promise<Peer> {
  const name = "@wireapp/core-crypto";
  const version = installedVersion();
  if (version === null) {
    const why = `${name} is not installed and not among the dependencies: what its native module imports (@ubjs/node) it does not bring along, and its native library of version 10.3.0 needs glibc 2.38; this machine has ${glibc()}.`;
    return { name, version, measured: false, why };
  }
  try {
    await import(CORE_CRYPTO as string);
    return {
      name,
      version,
      measured: false,
      why: "it loads here, but this benchmark has no adapter for it yet",
    };
  } catch (error) {
    const reason = (error instanceof Error ? error.message : String(error)).split("\n")[0];
    return { name, version, measured: false, why: `it is installed and does not load: ${reason}` };
  }
}

function installedVersion(): string | null {
  try {
    createRequire(import.meta.url).resolve(CORE_CRYPTO, { conditions: new Set(["import"]) } as never);
    return packageVersion(CORE_CRYPTO);
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    // It exports nothing for require(): a package that is there is refused in other words than one that is not.
    return code === "MODULE_NOT_FOUND" ? null : "unknown";
  }
}

function glibc(): string {
  const { header } = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
  return header?.glibcVersionRuntime === undefined ? "none" : `glibc ${header.glibcVersionRuntime}`;
}
