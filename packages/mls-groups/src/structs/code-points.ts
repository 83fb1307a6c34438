/** Code points of the IANA registries of RFC 9420 section 17 and draft-ietf-mls-extensions. */

/** ProtocolVersion mls10 (section 6). */
export const MLS10 = 1;

/** Section 17.2. */
export const wireFormats = {
  mls_public_message: 1,
  mls_private_message: 2,
  mls_welcome: 3,
  mls_group_info: 4,
  mls_key_package: 5,
} as const;
export type WireFormat = keyof typeof wireFormats;

/** Section 17.3; last_resort_key_package is of draft-ietf-mls-extensions. */
export const extensionTypes = {
  application_id: 0x0001,
  ratchet_tree: 0x0002,
  required_capabilities: 0x0003,
  external_pub: 0x0004,
  external_senders: 0x0005,
  last_resort_key_package: 0x000a,
} as const;

/** Section 17.4; self_remove is of draft-ietf-mls-extensions. */
export const proposalTypes = {
  add: 0x0001,
  update: 0x0002,
  remove: 0x0003,
  psk: 0x0004,
  reinit: 0x0005,
  external_init: 0x0006,
  group_context_extensions: 0x0007,
  self_remove: 0x000a,
} as const;

/** Section 17.5. */
export const credentialTypes = { basic: 0x0001, x509: 0x0002 } as const;

/** Every client implements these extension types, so capabilities must not list them (section 7.2). */
export function isDefaultExtensionType(type: number): boolean {
  return type >= 0x0001 && type <= 0x0005;
}

/** Every client implements these proposal types, so capabilities must not list them (section 7.2). */
export function isDefaultProposalType(type: number): boolean {
  return type >= 0x0001 && type <= 0x0007;
}

/** The values reserved for GREASE in every registry (section 13.5). Only for a sender's choice of values. */
export const greaseValues: readonly number[] = Array.from({ length: 15 }, (_, i) => 0x0a0a + i * 0x1010);

/** The name of a code point in one of the tables above; undefined when it has none. */
export function nameOf<Name extends string>(
  table: Readonly<Record<Name, number>>,
  code: number,
): Name | undefined {
  for (const name in table) if (table[name] === code) return name;
  return undefined;
}
