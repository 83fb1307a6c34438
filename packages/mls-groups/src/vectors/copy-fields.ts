import { makeAuthenticatedContent } from "../structs/authenticated-content.ts";
import { LazyVector } from "../structs/lazy-vector.ts";
import type { MlsMessage } from "../structs/mls-message.ts";

/**
 * A deep copy of a decoded struct made from its fields alone. The copy does not remember the bytes that the
 * original was decoded from, so that encoding it shows what the fields say.
 */
export function copyFields<T>(value: T): T {
  return copy(value) as T;
}

function copy(value: unknown): unknown {
  if (value instanceof Uint8Array) return value.slice();
  if (Array.isArray(value)) return value.map(copy);
  if (value instanceof LazyVector) return LazyVector.from(Array.from(value, copy), value.codec);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([name, field]) => [name, copy(field)]));
}

/** {@link copyFields} for a whole message, whose framed content is encoded anew. */
export function copyMessage(message: MlsMessage): MlsMessage {
  if (message.wireFormat !== "mls_public_message") return copyFields(message);
  const { authenticated, membershipTag } = copyFields(message.publicMessage);
  const { wireFormat, content, auth } = authenticated;
  const publicMessage = { authenticated: makeAuthenticatedContent(wireFormat, content, auth), membershipTag };
  return { wireFormat: "mls_public_message", publicMessage };
}
