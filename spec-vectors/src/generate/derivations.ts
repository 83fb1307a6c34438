/** Cases of the formats that need no group: tree arithmetic, labels, key schedule, secret tree, PSKs. */
import type {
  CryptoBasicsCase,
  DeserializationCase,
  KeyScheduleCase,
  PskSecretCase,
  SecretTreeCase,
  TreeMathCase,
} from "../formats.ts";
import {
  deriveSecret,
  deriveTreeSecret,
  encodeGroupContext,
  expandWithLabel,
  exporter,
  keySchedule,
  labeledContent,
  leafSecrets,
  pskSecret,
  ratchetKey,
  refHash,
  vector,
} from "./reference.ts";
import { type ReferenceSuite, referenceSuite, seededRandom, suiteIds } from "./suites.ts";

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

const suites = (purpose: string): ReferenceSuite[] =>
  suiteIds.map((id) => referenceSuite(id, seededRandom(`${purpose}/${id}`)));

/** Builds the tree of RFC 9420 appendix C by recursion over ranges, without any arithmetic on indexes. */
export function treeMath(): TreeMathCase[] {
  return [1, 2, 4, 8, 16, 32].map((leaves) => {
    const nodes = 2 * leaves - 1;
    const blank = () => Array.from({ length: nodes }, (): number | null => null);
    const [left, right, parent, sibling] = [blank(), blank(), blank(), blank()];
    const build = (from: number, to: number): number => {
      if (to - from === 1) return from * 2;
      const middle = (from + to) / 2;
      const node = middle * 2 - 1;
      const [l, r] = [build(from, middle), build(middle, to)];
      left[node] = l;
      right[node] = r;
      parent[l] = parent[r] = node;
      sibling[l] = r;
      sibling[r] = l;
      return node;
    };
    return { n_leaves: leaves, n_nodes: nodes, root: build(0, leaves), left, right, parent, sibling };
  });
}

export function deserialization(): DeserializationCase[] {
  return [0, 1, 63, 64, 255, 16383, 16384, 1_000_000].map((length) => ({
    vlbytes_header: hex(vector(new Uint8Array(length)).subarray(0, length < 64 ? 1 : length < 16384 ? 2 : 4)),
    length,
  }));
}

export async function cryptoBasics(): Promise<CryptoBasicsCase[]> {
  return Promise.all(suites("crypto-basics").map(basicsOf));
}

async function basicsOf(suite: ReferenceSuite): Promise<CryptoBasicsCase> {
  const { random, hashLength } = suite;
  const secret = () => random(hashLength);
  const [value, content, context, plaintext] = [random(40), random(70), random(33), random(90)];
  const [expandSecret, deriveFrom, treeSecret] = [secret(), secret(), secret()];
  const signer = suite.signature.keygen(random);
  const recipient = await suite.deriveKeyPair(random(64));
  const info = labeledContent("EncryptWithLabel", context);
  const sealed = await suite.hpkeSeal(recipient.pub, info, new Uint8Array(), plaintext);
  const signature = suite.signature.sign(signer.priv, labeledContent("SignWithLabel", content));
  return {
    cipher_suite: suite.id,
    ref_hash: { label: "RefHash", value: hex(value), out: hex(refHash(suite, "RefHash", value)) },
    expand_with_label: {
      secret: hex(expandSecret),
      label: "ExpandWithLabel",
      context: hex(context),
      length: 21,
      out: hex(expandWithLabel(suite, expandSecret, "ExpandWithLabel", context, 21)),
    },
    derive_secret: {
      secret: hex(deriveFrom),
      label: "DeriveSecret",
      out: hex(deriveSecret(suite, deriveFrom, "DeriveSecret")),
    },
    derive_tree_secret: {
      secret: hex(treeSecret),
      label: "DeriveTreeSecret",
      generation: 0x01020304,
      length: 37,
      out: hex(deriveTreeSecret(suite, treeSecret, "DeriveTreeSecret", 0x01020304, 37)),
    },
    sign_with_label: {
      priv: hex(signer.priv),
      pub: hex(signer.pub),
      content: hex(content),
      label: "SignWithLabel",
      signature: hex(signature),
    },
    encrypt_with_label: {
      priv: hex(recipient.priv),
      pub: hex(recipient.pub),
      label: "EncryptWithLabel",
      context: hex(context),
      plaintext: hex(plaintext),
      kem_output: hex(sealed.enc),
      ciphertext: hex(sealed.ct),
    },
  };
}

export async function keySchedules(): Promise<KeyScheduleCase[]> {
  return Promise.all(suites("key-schedule").map(scheduleOf));
}

async function scheduleOf(suite: ReferenceSuite): Promise<KeyScheduleCase> {
  const { random, hashLength } = suite;
  const groupId = random(17);
  const initial = random(hashLength);
  let initSecret = initial;
  const epochs: KeyScheduleCase["epochs"][number][] = [];
  for (let epoch = 0; epoch < 2; epoch++) {
    const [treeHash, commitSecret, confirmed] = [random(hashLength), random(hashLength), random(hashLength)];
    const psk = epoch === 1 ? new Uint8Array(hashLength) : random(hashLength);
    const fields = { groupId, epoch, treeHash, confirmedTranscriptHash: confirmed };
    const groupContext = encodeGroupContext(suite, fields);
    const secrets = keySchedule(suite, initSecret, commitSecret, psk, groupContext);
    const external = await suite.deriveKeyPair(secrets.externalSecret);
    const context = random(12);
    initSecret = secrets.initSecret;
    epochs.push({
      tree_hash: hex(treeHash),
      commit_secret: hex(commitSecret),
      psk_secret: hex(psk),
      confirmed_transcript_hash: hex(confirmed),
      group_context: hex(groupContext),
      joiner_secret: hex(secrets.joinerSecret),
      welcome_secret: hex(secrets.welcomeSecret),
      init_secret: hex(secrets.initSecret),
      sender_data_secret: hex(secrets.senderDataSecret),
      encryption_secret: hex(secrets.encryptionSecret),
      exporter_secret: hex(secrets.exporterSecret),
      epoch_authenticator: hex(secrets.epochAuthenticator),
      external_secret: hex(secrets.externalSecret),
      confirmation_key: hex(secrets.confirmationKey),
      membership_key: hex(secrets.membershipKey),
      resumption_psk: hex(secrets.resumptionPsk),
      external_pub: hex(external.pub),
      exporter: {
        label: `application ${epoch}`,
        context: hex(context),
        length: 45,
        secret: hex(exporter(suite, secrets.exporterSecret, `application ${epoch}`, context, 45)),
      },
    });
  }
  return { cipher_suite: suite.id, group_id: hex(groupId), initial_init_secret: hex(initial), epochs };
}

export function secretTrees(): SecretTreeCase[] {
  return suites("secret-tree").flatMap((suite) => [2, 5].map((leaves) => secretTreeOf(suite, leaves)));
}

function secretTreeOf(suite: ReferenceSuite, leaves: number): SecretTreeCase {
  const [encryptionSecret, senderDataSecret, ciphertext] = [
    suite.random(suite.hashLength),
    suite.random(suite.hashLength),
    suite.random(80),
  ];
  const sample = ciphertext.subarray(0, suite.hashLength);
  const fromSample = (label: string, length: number) =>
    hex(expandWithLabel(suite, senderDataSecret, label, sample, length));
  return {
    cipher_suite: suite.id,
    encryption_secret: hex(encryptionSecret),
    sender_data: {
      sender_data_secret: hex(senderDataSecret),
      ciphertext: hex(ciphertext),
      key: fromSample("key", suite.keyLength),
      nonce: fromSample("nonce", suite.nonceLength),
    },
    leaves: leafSecrets(suite, leaves, encryptionSecret).map((leafSecret) =>
      [0, 3].map((generation) => {
        const application = ratchetKey(suite, leafSecret, "application", generation);
        const handshake = ratchetKey(suite, leafSecret, "handshake", generation);
        return {
          generation,
          application_key: hex(application.key),
          application_nonce: hex(application.nonce),
          handshake_key: hex(handshake.key),
          handshake_nonce: hex(handshake.nonce),
        };
      }),
    ),
  };
}

export function pskSecrets(): PskSecretCase[] {
  return suites("psk-secret").flatMap((suite) =>
    [0, 1, 3].map((count) => {
      const psks = Array.from({ length: count }, () => ({
        id: suite.random(9),
        nonce: suite.random(suite.hashLength),
        psk: suite.random(suite.hashLength),
      }));
      return {
        cipher_suite: suite.id,
        psks: psks.map(({ id, nonce, psk }) => ({ psk_id: hex(id), psk: hex(psk), psk_nonce: hex(nonce) })),
        psk_secret: hex(pskSecret(suite, psks)),
      };
    }),
  );
}
