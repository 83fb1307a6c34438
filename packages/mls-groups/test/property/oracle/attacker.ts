import { type Bytes, decodeWhole, InvariantError, RejectionError } from "@murmuration/base";
import { decryptWithLabel, deriveSecret } from "../../../src/crypto/labeled.ts";
import { openSenderData, unprotectPrivateMessage } from "../../../src/framing/private-message.ts";
import { decodeGroupInfo } from "../../../src/group/group-info.ts";
import { encodeGroupContext } from "../../../src/group/public-epoch.ts";
import type { CryptoProvider } from "../../../src/index.ts";
import {
  deriveEpochSecrets,
  deriveJoinerSecret,
  type EpochSecrets,
  isConfirmationTag,
  receiveExternalInit,
  zeroSecret,
} from "../../../src/schedule/key-schedule.ts";
import { SecretTree } from "../../../src/schedule/secret-tree.ts";
import type { Commit } from "../../../src/structs/commit.ts";
import type { GroupContext } from "../../../src/structs/group-context.ts";
import type { GroupInfo } from "../../../src/structs/group-info.ts";
import { decodeMlsMessage } from "../../../src/structs/mls-message.ts";
import { readGroupSecrets } from "../../../src/structs/welcome.ts";
import { ByteSet, type Loot } from "./loot.ts";

/** One epoch as a delivery service sees it go by. */
export interface PublicTraffic {
  /** MLSMessages. The first epoch has neither commit nor Welcome. */
  readonly commit: Uint8Array | undefined;
  readonly welcome: Uint8Array | undefined;
  readonly groupInfo: Uint8Array;
  readonly leafSlots: number;
  /** MLSMessages with application data of this epoch. */
  readonly applicationMessages: readonly Uint8Array[];
}

/** What the attacker got out of the last epoch. Both empty is what the protocol promises. */
export interface Booty {
  /** epoch_authenticator of the last epoch, if the attacker derived its secrets. */
  readonly authenticator: Bytes | undefined;
  /** How many application messages of the last epoch it decrypted. */
  readonly messages: number;
  /** How much was tried: an attacker that tries nothing proves nothing. */
  readonly attempts: number;
}

/** A ciphertext that some HPKE key opens, and what to do with the plaintext. */
interface Sealed {
  readonly label: "UpdatePathNode" | "Welcome";
  readonly context: Uint8Array;
  readonly kemOutput: Uint8Array;
  readonly ciphertext: Uint8Array;
  readonly opened: (plaintext: Bytes) => void;
}

/** One epoch decoded. */
interface Seen {
  readonly traffic: PublicTraffic;
  readonly info: GroupInfo;
  readonly contextBytes: Bytes;
  readonly commit: Commit | undefined;
  /** GroupContext under which the path was sealed: the new one with the old confirmed transcript hash. */
  readonly provisional: Bytes;
  readonly commitSecrets: ByteSet;
  readonly joinerSecrets: ByteSet;
}

/**
 * Attacks the last epoch of the traffic with everything in the loot. Every HPKE ciphertext that ever went by is
 * tried with every private key, those that the plaintexts lead to included, until nothing new opens. Then every
 * secret is tried as init_secret and as joiner_secret, with every commit_secret that was found and with zero. What
 * counts as success the attacker can tell alone: the confirmation tag is public.
 */
export function attack(crypto: CryptoProvider, loot: Loot, traffic: readonly PublicTraffic[]): Booty {
  return new Attacker(crypto, loot, traffic).run();
}

class Attacker {
  readonly #crypto: CryptoProvider;
  readonly #loot: Loot;
  readonly #epochs: readonly Seen[];
  readonly #sealed: Sealed[] = [];
  readonly #keys: Bytes[] = [];
  readonly #knownKeys = new ByteSet();
  readonly #secrets = new ByteSet();
  #attempts = 0;

  constructor(crypto: CryptoProvider, loot: Loot, traffic: readonly PublicTraffic[]) {
    this.#crypto = crypto;
    this.#loot = loot;
    this.#epochs = traffic.map((epoch, i) => see(epoch, traffic[i - 1]));
    for (const key of loot.privateKeys) this.#learnKey(key);
    for (const secret of loot.secrets) this.#secrets.add(secret);
    for (const seen of this.#epochs) this.#collectSealed(seen);
  }

  run(): Booty {
    this.#openEverything();
    const last = this.#epochs.at(-1)!;
    const secrets = this.#epochSecrets(last);
    const { applicationMessages } = last.traffic;
    const messages = applicationMessages.filter((message) => this.#reads(last, message, secrets)).length;
    return { authenticator: secrets?.epochAuthenticator, messages, attempts: this.#attempts };
  }

  #learnKey(key: Uint8Array): void {
    if (this.#knownKeys.add(key)) this.#keys.push(key.slice() as Bytes);
  }

  #collectSealed(seen: Seen): void {
    for (const [i, { encryptedPathSecret }] of (seen.commit?.path?.nodes ?? []).entries()) {
      for (const { kemOutput, ciphertext } of encryptedPathSecret) {
        const above = seen.commit!.path!.nodes.length - i;
        const opened = (secret: Bytes) => this.#climb(seen, secret, above);
        this.#sealed.push({
          label: "UpdatePathNode",
          context: seen.provisional,
          kemOutput,
          ciphertext,
          opened,
        });
      }
    }
    if (seen.traffic.welcome === undefined) return;
    const message = decodeMlsMessage(seen.traffic.welcome);
    if (message.wireFormat !== "mls_welcome") throw new TypeError("not a Welcome");
    const { secrets, encryptedGroupInfo } = message.welcome;
    for (const { encryptedGroupSecrets } of secrets) {
      const { kemOutput, ciphertext } = encryptedGroupSecrets;
      const opened = (plaintext: Bytes) => this.#takeGroupSecrets(seen, plaintext);
      this.#sealed.push({ label: "Welcome", context: encryptedGroupInfo, kemOutput, ciphertext, opened });
    }
  }

  /** Path secrets upwards, their node keys, and the commit_secret at the end, wherever the end may be. */
  #climb(seen: Seen, first: Bytes, nodes: number): void {
    let secret = first;
    for (let i = 0; i <= nodes; i++) {
      seen.commitSecrets.add(secret);
      this.#secrets.add(secret);
      this.#learnKey(this.#crypto.deriveHpkeKeyPair(deriveSecret(this.#crypto, secret, "node")).privateKey);
      secret = deriveSecret(this.#crypto, secret, "path");
    }
  }

  #takeGroupSecrets(seen: Seen, plaintext: Bytes): void {
    const { joinerSecret, pathSecret } = decodeWhole(plaintext, readGroupSecrets);
    seen.joinerSecrets.add(joinerSecret);
    this.#secrets.add(joinerSecret);
    if (pathSecret !== undefined) this.#climb(seen, pathSecret.slice(), seen.commit?.path?.nodes.length ?? 0);
  }

  #openEverything(): void {
    // #keys grows while it is walked.
    for (const key of this.#keys) for (const sealed of this.#sealed) this.#open(key, sealed);
  }

  #open(key: Bytes, sealed: Sealed): void {
    const { label, context, kemOutput, ciphertext, opened } = sealed;
    const plaintext = this.#try(() =>
      decryptWithLabel(this.#crypto, key, undefined, label, context, kemOutput, ciphertext),
    );
    if (plaintext !== undefined) opened(plaintext);
  }

  #try<T>(action: () => T): T | undefined {
    this.#attempts++;
    try {
      return action();
    } catch (error) {
      // A looted secret tree may have no row for this leaf.
      if (error instanceof RejectionError || error instanceof InvariantError) return undefined;
      throw error;
    }
  }

  /** init_secret from the ExternalInit of the last commit, for every external_secret in the loot (8.3). */
  #externalInitSecrets({ commit }: Seen): Bytes[] {
    const found: Bytes[] = [];
    for (const item of commit?.proposals ?? []) {
      if (item.kind !== "proposal" || item.proposal.kind !== "external_init") continue;
      const { kemOutput } = item.proposal;
      for (const secret of this.#loot.externalSecrets) {
        const init = this.#try(() => receiveExternalInit(this.#crypto, secret, kemOutput));
        if (init !== undefined) found.push(init);
      }
    }
    return found;
  }

  #epochSecrets(last: Seen): EpochSecrets | undefined {
    const zero = zeroSecret(this.#crypto);
    const joiners = [...last.joinerSecrets, ...this.#secrets];
    for (const joiner of joiners) {
      const secrets = this.#check(last, joiner);
      if (secrets !== undefined) return secrets;
    }
    for (const init of [zero, ...this.#externalInitSecrets(last), ...this.#secrets]) {
      for (const commitSecret of [zero, ...last.commitSecrets]) {
        const joiner = deriveJoinerSecret(this.#crypto, init, commitSecret, last.contextBytes);
        const secrets = this.#check(last, joiner);
        if (secrets !== undefined) return secrets;
      }
    }
    return undefined;
  }

  #check(last: Seen, joinerSecret: Uint8Array): EpochSecrets | undefined {
    this.#attempts++;
    const { confirmationTag, groupContext } = last.info;
    const pskSecret = zeroSecret(this.#crypto);
    const secrets = deriveEpochSecrets(this.#crypto, joinerSecret, pskSecret, last.contextBytes);
    const { confirmedTranscriptHash } = groupContext;
    return isConfirmationTag(this.#crypto, secrets.confirmationKey, confirmedTranscriptHash, confirmationTag)
      ? secrets
      : undefined;
  }

  /** Opens an application message with the new epoch's secrets, or with those of any other epoch. */
  #reads(last: Seen, bytes: Uint8Array, secrets: EpochSecrets | undefined): boolean {
    const message = decodeMlsMessage(bytes);
    if (message.wireFormat !== "mls_private_message") throw new TypeError("not a PrivateMessage");
    const { privateMessage } = message;
    const trees = [...this.#loot.secretTrees.values()].map(
      (rows) => () => SecretTree.load(this.#crypto, last.traffic.leafSlots, (key) => rows.get(key)),
    );
    if (secrets !== undefined) trees.push(() => this.#newSecretTree(last, secrets));
    const senderDataSecrets = [
      ...this.#secrets,
      ...(secrets === undefined ? [] : [secrets.senderDataSecret]),
    ];
    return senderDataSecrets.some((senderDataSecret) => {
      const senderData = this.#try(() => openSenderData(this.#crypto, privateMessage, senderDataSecret));
      if (senderData === undefined) return false;
      return trees.some((tree) => {
        const opened = this.#try(() => {
          const key = tree().stageReceive(senderData.leafIndex, "application", senderData.generation);
          return unprotectPrivateMessage(this.#crypto, privateMessage, senderData, key);
        });
        return opened !== undefined;
      });
    });
  }

  #newSecretTree(last: Seen, secrets: EpochSecrets): SecretTree {
    return SecretTree.create(this.#crypto, secrets.encryptionSecret.slice(), last.traffic.leafSlots);
  }
}

function see(traffic: PublicTraffic, before: PublicTraffic | undefined): Seen {
  const info = decodeGroupInfo(traffic.groupInfo);
  const context: GroupContext = info.groupContext;
  const previous = before === undefined ? undefined : decodeGroupInfo(before.groupInfo).groupContext;
  const confirmedTranscriptHash = previous?.confirmedTranscriptHash ?? new Uint8Array(0);
  return {
    traffic,
    info,
    contextBytes: encodeGroupContext(context),
    commit: traffic.commit === undefined ? undefined : commitIn(traffic.commit),
    provisional: encodeGroupContext({ ...context, confirmedTranscriptHash }),
    commitSecrets: new ByteSet(),
    joinerSecrets: new ByteSet(),
  };
}

function commitIn(bytes: Uint8Array): Commit {
  const message = decodeMlsMessage(bytes);
  if (message.wireFormat !== "mls_public_message") throw new TypeError("not a PublicMessage");
  const { content } = message.publicMessage.authenticated;
  if (content.contentType !== "commit") throw new TypeError("not a commit");
  return content.commit;
}
