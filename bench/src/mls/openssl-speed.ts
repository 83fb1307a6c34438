import { execFile } from "node:child_process";
import { promisify } from "node:util";
import type { PrimitiveCosts } from "./primitives.ts";
import type { PrimitiveCost } from "./rows.ts";

const run = promisify(execFile);

/** Microseconds of `openssl speed`, by the primitive they compare with. Empty where there is no openssl. */
export type OpensslCosts = Partial<Record<keyof PrimitiveCosts, number>>;

/** Asks `openssl speed` for one second each, about seven in all. */
export async function measureOpenssl(): Promise<OpensslCosts> {
  try {
    return {
      ...parseCurves(await speed("ecdhx25519", "ed25519")),
      ...parseBlocks(await speed("-bytes", "64", "-evp", "sha256"), "hash", 64),
      ...parseBlocks(await speed("-bytes", "64", "-hmac", "sha256"), "mac", 64),
      ...parseBlocks(await speed("-bytes", "64", "-evp", "aes-128-gcm"), "seal", 64),
    };
  } catch {
    return {};
  }
}

async function speed(...what: readonly string[]): Promise<string> {
  return (await run("openssl", ["speed", "-mr", "-elapsed", "-seconds", "1", ...what])).stdout;
}

/** Lines such as `+F5:22:253:30777.7:0.000032` (derivations a second) and `+F6:0:253:Ed25519:23308:5598`. */
export function parseCurves(output: string): OpensslCosts {
  const costs: OpensslCosts = {};
  for (const line of output.split("\n")) {
    const fields = line.split(":");
    if (fields[0] === "+F5") {
      const us = 1e6 / Number(fields[3]);
      Object.assign(costs, { diffieHellman: us, generateKeyPair: us, derivePublicKey: us });
    } else if (fields[0] === "+F6") {
      Object.assign(costs, { sign: 1e6 / Number(fields[4]), verify: 1e6 / Number(fields[5]) });
    }
  }
  return costs;
}

/** A line such as `+F:25:sha256:279623951.52`: bytes a second, here as the time of `bytes`. */
export function parseBlocks(output: string, primitive: keyof PrimitiveCosts, bytes: number): OpensslCosts {
  const line = output.split("\n").find((each) => each.startsWith("+F:"));
  const rate = Number(line?.split(":").at(-1));
  return rate > 0 ? { [primitive]: (bytes / rate) * 1e6 } : {};
}

/** Most that a primitive may cost, as a multiple of OpenSSL's time, before the ratio to the floor is void. */
const ALLOWED = 1.5;
/** A call from JavaScript costs more than one block; that is a fact of the platform. Long inputs have ALLOWED. */
const ALLOWED_SHORT = 15;
const SHORT: readonly string[] = ["hash", "mac", "seal"];
/**
 * OpenSSL times the scalar multiplication alone, and making a key pair includes its key object, so these are
 * shown and not judged; `diffieHellman` judges the curve.
 */
const SHOWN_ONLY: readonly string[] = ["generateKeyPair", "derivePublicKey"];

/** Each primitive beside OpenSSL, and why the floor is void where one is too slow. */
export function compareWithOpenssl(
  costs: PrimitiveCosts,
  openssl: OpensslCosts,
): { readonly primitives: PrimitiveCost[]; readonly tooSlow: string[] } {
  const primitives = Object.entries(costs).map(([name, us]) => ({
    name,
    us,
    opensslUs: openssl[name as keyof PrimitiveCosts] ?? null,
  }));
  const tooSlow = primitives.flatMap(({ name, us, opensslUs }) => {
    if (opensslUs === null || SHOWN_ONLY.includes(name)) return [];
    const allowed = SHORT.includes(name) ? ALLOWED_SHORT : ALLOWED;
    const factor = us / opensslUs;
    return factor > allowed ? [`${name} is ${factor.toFixed(1)} times slower than OpenSSL`] : [];
  });
  return { primitives, tooSlow };
}
