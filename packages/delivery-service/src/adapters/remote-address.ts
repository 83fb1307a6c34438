/**
 * The address that the outermost trusted proxy saw; entries of X-Forwarded-For further left are the peer's own claims.
 * `direct` is the other end of the TCP connection.
 */
export function clientAddress(
  direct: string,
  forwardedFor: string | undefined,
  trustedProxies: number,
): string {
  if (trustedProxies === 0) return direct;
  return (forwardedFor ?? "").split(",").at(-trustedProxies)?.trim() || direct;
}

/** The text of an address of 4 or 16 bytes, with an IPv4 address in its IPv6-mapped form as IPv4. "" for none. */
export function addressText(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.length !== 16) return "";
  const mapped = bytes.subarray(0, 12).every((byte, index) => byte === (index < 10 ? 0 : 0xff));
  if (mapped) return bytes.subarray(12).join(".");
  const groups = Array.from({ length: 8 }, (_, index) => (bytes[index * 2]! << 8) | bytes[index * 2 + 1]!);
  return groups.map((group) => group.toString(16)).join(":");
}
