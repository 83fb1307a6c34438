import { fromHex } from "@murmuration/base";
import type { CryptoProvider } from "../crypto/provider.ts";
import {
  deriveEpochSecrets,
  deriveExternalKeyPair,
  deriveJoinerSecret,
  deriveWelcomeSecret,
  type EpochSecrets,
  exportSecret,
} from "../schedule/key-schedule.ts";
import { groupContextBytes } from "../structs/group-context.ts";
import { expectBytes, type MakeProvider, providerOf } from "./expect.ts";

interface KeyScheduleVectorEpoch {
  readonly tree_hash: string;
  readonly commit_secret: string;
  readonly psk_secret?: string | null;
  readonly confirmed_transcript_hash: string;
  readonly group_context: string;
  readonly joiner_secret: string;
  readonly welcome_secret: string;
  readonly init_secret: string;
  readonly sender_data_secret: string;
  readonly encryption_secret: string;
  readonly exporter_secret: string;
  readonly epoch_authenticator: string;
  readonly external_secret: string;
  readonly confirmation_key: string;
  readonly membership_key: string;
  readonly resumption_psk: string;
  readonly external_pub: string;
  readonly exporter: {
    readonly label: string;
    readonly context: string;
    readonly length: number;
    readonly secret: string;
  };
}

/** A case of key-schedule.json. */
export interface KeyScheduleVector {
  readonly cipher_suite: number;
  readonly group_id: string;
  readonly initial_init_secret: string;
  readonly epochs: readonly KeyScheduleVectorEpoch[];
}

/** Verifies one case of key-schedule (RFC 9420 section 8). Throws VectorMismatch. */
export function runKeySchedule(vector: KeyScheduleVector, makeProvider: MakeProvider): void {
  const crypto = providerOf(vector, makeProvider);
  let initSecret: Uint8Array = fromHex(vector.initial_init_secret);
  for (const [number, epoch] of vector.epochs.entries()) {
    const groupContext = groupContextBytes({
      cipherSuite: vector.cipher_suite,
      groupId: fromHex(vector.group_id),
      epoch: BigInt(number),
      treeHash: fromHex(epoch.tree_hash),
      confirmedTranscriptHash: fromHex(epoch.confirmed_transcript_hash),
      extensions: [],
    });
    expectBytes(`epoch ${number}: group_context`, groupContext, epoch.group_context);
    initSecret = runEpoch(crypto, number, epoch, initSecret, groupContext).initSecret;
  }
}

function runEpoch(
  crypto: CryptoProvider,
  number: number,
  epoch: KeyScheduleVectorEpoch,
  initSecret: Uint8Array,
  groupContext: Uint8Array,
): EpochSecrets {
  const expect = (what: string, actual: Uint8Array, expected: string) =>
    expectBytes(`epoch ${number}: ${what}`, actual, expected);
  const pskSecret = epoch.psk_secret ? fromHex(epoch.psk_secret) : new Uint8Array(crypto.suite.hashLength);
  const joiner = deriveJoinerSecret(crypto, initSecret, fromHex(epoch.commit_secret), groupContext);
  expect("joiner_secret", joiner, epoch.joiner_secret);
  expect("welcome_secret", deriveWelcomeSecret(crypto, joiner, pskSecret), epoch.welcome_secret);
  const secrets = deriveEpochSecrets(crypto, joiner, pskSecret, groupContext);
  expect("sender_data_secret", secrets.senderDataSecret, epoch.sender_data_secret);
  expect("encryption_secret", secrets.encryptionSecret, epoch.encryption_secret);
  expect("exporter_secret", secrets.exporterSecret, epoch.exporter_secret);
  expect("external_secret", secrets.externalSecret, epoch.external_secret);
  expect("confirmation_key", secrets.confirmationKey, epoch.confirmation_key);
  expect("membership_key", secrets.membershipKey, epoch.membership_key);
  expect("resumption_psk", secrets.resumptionPsk, epoch.resumption_psk);
  expect("epoch_authenticator", secrets.epochAuthenticator, epoch.epoch_authenticator);
  expect("init_secret", secrets.initSecret, epoch.init_secret);
  expect("external_pub", deriveExternalKeyPair(crypto, secrets.externalSecret).publicKey, epoch.external_pub);
  const { label, context, length, secret } = epoch.exporter;
  const exported = exportSecret(crypto, secrets.exporterSecret, label, fromHex(context), length);
  expect("exporter", exported, secret);
  return secrets;
}
