import { type PaddingPolicy, padme } from "../framing/padding.ts";
import { DEFAULT_RATCHET_LIMITS, type SecretTreeLimits } from "../schedule/secret-tree.ts";
import type { FramingWireFormat } from "../structs/authenticated-content.ts";
import { type GroupPolicy, openPolicy } from "./policy.ts";
import { noPsks, type PskSource } from "./psk-source.ts";
import { type ReceiveWindow, receiveWindowDefaults } from "./retained-epochs.ts";

/** What an application decides about a group; nothing of it is agreed in the protocol. */
export interface GroupConfig {
  readonly policy: GroupPolicy;
  /** PSKs that do not come from this group itself. */
  readonly psks: PskSource;
  readonly padding: PaddingPolicy;
  /**
   * How proposals and commits are framed. Public lets a delivery service follow the tree, validate commits and
   * serve the tree; private hides them from it.
   */
  readonly handshakeFormat: FramingWireFormat;
  readonly receiveWindow: ReceiveWindow;
  readonly ratchetLimits: SecretTreeLimits;
  /** How many past epochs' resumption PSKs stay (8.6). */
  readonly resumptionPsks: number;
}

export const groupDefaults: GroupConfig = {
  policy: openPolicy,
  psks: noPsks,
  padding: padme,
  handshakeFormat: "mls_public_message",
  receiveWindow: receiveWindowDefaults,
  ratchetLimits: DEFAULT_RATCHET_LIMITS,
  resumptionPsks: 16,
};
