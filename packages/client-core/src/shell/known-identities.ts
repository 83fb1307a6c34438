import { type AccountId, type Bytes, equalBytes, type GroupId, groupId } from "@murmuration/base";
import { fingerprintOf } from "../core/profile.ts";
import type { Context } from "./context.ts";

/** Somebody as a group, or its record, names them. */
interface Named {
  readonly account: AccountId;
  readonly identityKey: Uint8Array;
}

/**
 * Which identity key is whose, as far as this device knows: by a session or device list, or by a contact card alone. No device
 * list is taken that does not fit the card. Whoever may add members can make a key of its own and have it stand for any
 * account that is not in the group: what it reads and says would be taken for that account's.
 */
export class KnownIdentities {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** How a key, wherever it stands, compares with what is known of its account. One or two rows. */
  compare(account: AccountId, key: Uint8Array): "same" | "other" | "unknown" {
    const { contacts, engine } = this.context;
    const known = engine.identityOf(account)?.accountIdentityKey;
    return compareKey(key, known, known === undefined ? contacts.fingerprint(account) : undefined);
  }

  /** Inside a transaction: tells the user of those who stand in a conversation under another key. Two queries. */
  tellOfOthers(conversation: GroupId, named: readonly Named[]): void {
    if (named.length === 0) return;
    const { contacts, engine } = this.context;
    const accounts = named.map(({ account }) => account);
    const known = engine.identityKeysOf(accounts);
    const cards = contacts.fingerprints(accounts);
    named.forEach((one, index) => {
      if (compareKey(one.identityKey, known[index], cards[index]) === "other")
        this.tellOfOther(conversation, one);
    });
  }

  /** Inside a transaction: tells the user, once. Whoever has such a leaf decides how much it says. */
  tellOfOther(conversation: GroupId, { account, identityKey }: Named): void {
    const { context } = this;
    if (!context.conversations.noteOtherIdentity(conversation, account, identityKey)) return;
    const other = { kind: "decision-needed", conversation, detail: "group/other-identity" } as const;
    context.events.append({ ...other, account, atMs: context.now() });
  }

  /** Inside the transaction by which this device knows more of an account: it may stand somewhere under another key. */
  learned(account: AccountId): void {
    for (const { group, identityKey } of this.context.conversations.standings(account))
      if (this.compare(account, identityKey) === "other")
        this.tellOfOther(groupId(group), { account, identityKey });
  }
}

/** A key that is known says more than a card of which no more than the fingerprint is. */
function compareKey(
  key: Uint8Array,
  known: Bytes | undefined,
  card: Bytes | undefined,
): "same" | "other" | "unknown" {
  if (known !== undefined) return equalBytes(known, key) ? "same" : "other";
  if (card === undefined) return "unknown";
  return equalBytes(card, fingerprintOf(key)) ? "same" : "other";
}
