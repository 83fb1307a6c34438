import { type Bytes, fromHex, toHex } from "@murmuration/base";
import { Group } from "../group/group.ts";
import { groupDefaults } from "../group/group-config.ts";
import { joinByWelcome } from "../group/join.ts";
import type { PskSource } from "../group/psk-source.ts";
import { decodeMlsMessage } from "../structs/mls-message.ts";
import { expectBytes, expectTrue, type MakeProvider, providerOf } from "./expect.ts";

/** passive-client-welcome.json, passive-client-handling-commit.json, passive-client-random.json. Bytes in hexadecimal. */
export interface PassiveClientVector {
  readonly cipher_suite: number;
  readonly external_psks: readonly { readonly psk_id: string; readonly psk: string }[];
  readonly key_package: string;
  readonly signature_priv: string;
  readonly encryption_priv: string;
  readonly init_priv: string;
  readonly welcome: string;
  readonly ratchet_tree: string | null;
  readonly initial_epoch_authenticator: string;
  readonly epochs: readonly {
    readonly proposals: readonly string[];
    readonly commit: string;
    readonly epoch_authenticator: string;
  }[];
}

function pskSource(vector: PassiveClientVector): PskSource {
  const values = new Map(vector.external_psks.map(({ psk_id, psk }) => [psk_id, fromHex(psk)]));
  return (id) => (id.kind === "external" ? values.get(toHex(id.pskId)) : undefined);
}

/** The files hold scalars of P-521 without their leading zero bytes; RFC 9180 section 7.1.2 has them. */
function padScalar(bytes: Uint8Array, length: number): Bytes {
  const padded = new Uint8Array(Math.max(length, bytes.length));
  padded.set(bytes, padded.length - bytes.length);
  return padded;
}

/**
 * A client that joins by Welcome and follows every commit, sending nothing (RFC 9420 sections 12.4.2 and 12.4.3.1).
 * After each epoch the epoch authenticator is compared. The cost grows with the group of the vector only at the join.
 */
export function runPassiveClient(vector: PassiveClientVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  const scalar = (hex: string) => padScalar(fromHex(hex), crypto.suite.kem.privateKeyLength);
  const message = decodeMlsMessage(fromHex(vector.key_package));
  if (message.wireFormat !== "mls_key_package") throw new Error("key_package holds another message");
  const config = { ...groupDefaults, psks: pskSource(vector) };
  const state = joinByWelcome(crypto, {
    welcome: fromHex(vector.welcome),
    keyPackage: {
      keyPackage: message.keyPackage,
      initPrivateKey: scalar(vector.init_priv),
      leafPrivateKey: scalar(vector.encryption_priv),
      signaturePrivateKey: fromHex(vector.signature_priv),
    },
    ratchetTree: vector.ratchet_tree === null ? undefined : fromHex(vector.ratchet_tree),
    policy: config.policy,
    psks: config.psks,
    ratchetLimits: config.ratchetLimits,
  });
  const { group } = Group.start(state, config);
  expectBytes("initial epoch_authenticator", group.epochAuthenticator(), vector.initial_epoch_authenticator);
  for (const epoch of vector.epochs) {
    for (const proposal of epoch.proposals) group.receive(fromHex(proposal));
    const received = group.receive(fromHex(epoch.commit));
    expectTrue("the epoch's commit is a commit", received.kind === "commit");
    if (received.kind === "commit") group.merge(received.commit, { nowMs: 0 });
    expectBytes("epoch_authenticator", group.epochAuthenticator(), epoch.epoch_authenticator);
  }
}
