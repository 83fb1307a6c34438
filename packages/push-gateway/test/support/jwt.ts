import { type KeyObject, verify } from "node:crypto";

/** The claims of a signed JWT (RFC 7519). Throws unless header and signature are what the algorithm and the key say. */
export function verifyJwt(
  jwt: string,
  algorithm: "ES256" | "RS256",
  key: KeyObject,
): { readonly header: Record<string, unknown>; readonly claims: Record<string, unknown> } {
  const [head, body, signature, ...rest] = jwt.split(".");
  if (signature === undefined || rest.length > 0) throw new Error("not a JWT");
  const decode = (part: string) =>
    JSON.parse(Buffer.from(part, "base64url").toString()) as Record<string, unknown>;
  const header = decode(head!);
  if (header["alg"] !== algorithm) throw new Error(`signed with ${header["alg"]}`);
  const how = algorithm === "ES256" ? { key, dsaEncoding: "ieee-p1363" as const } : key;
  const isValid = verify("sha256", Buffer.from(`${head}.${body}`), how, Buffer.from(signature, "base64url"));
  if (!isValid) throw new Error("bad signature");
  return { header, claims: decode(body!) };
}
