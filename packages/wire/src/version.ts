/**
 * Protocol versions. A version is one number; a client lists what it speaks in Hello, the service picks the
 * highest that both speak and names it in HelloReply. Within a version only optional fields, new kinds of
 * frames that an older peer may refuse, and new codes are added; anything else is a new version.
 */
import { RejectionError } from "@murmuration/base";

/** What this implementation speaks, in rising order. */
export const protocolVersions: readonly number[] = [1];

/** The highest common version. Throws RejectionError `version/unsupported` when there is none. */
export function negotiateVersion(
  theirs: readonly number[],
  ours: readonly number[] = protocolVersions,
): number {
  const common = theirs.filter((version) => ours.includes(version));
  if (common.length === 0) throw new RejectionError("version/unsupported");
  return Math.max(...common);
}

/** Checks the service's choice on the client's side. Throws RejectionError `version/unsupported`. */
export function acceptVersion(chosen: number, offered: readonly number[] = protocolVersions): number {
  if (!offered.includes(chosen)) throw new RejectionError("version/unsupported");
  return chosen;
}
