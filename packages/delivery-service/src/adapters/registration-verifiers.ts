import { createHash } from "node:crypto";
import { equalSecret } from "@murmuration/base";
import type { RegistrationVerifier } from "../ports/registration-verifier.ts";

/** Anybody may register. */
export const openRegistration: RegistrationVerifier = { verify: async () => "accepted" };

/** Whoever knows one of the codes may register. Every code is compared, in constant time. */
export function inviteCodeRegistration(codes: readonly Uint8Array[]): RegistrationVerifier {
  const digestOf = (code: Uint8Array) => createHash("sha256").update(code).digest();
  const digests = codes.map(digestOf);
  return {
    async verify({ inviteCode }) {
      if (inviteCode === undefined) return "refused";
      const claimed = digestOf(inviteCode);
      const matches = digests.map((digest) => equalSecret(digest, claimed));
      return matches.includes(true) ? "accepted" : "refused";
    },
  };
}
