import {
  type AccountId,
  type Bytes,
  concatBytes,
  equalBytes,
  formatId,
  type GroupId,
  groupId,
  ID_BYTES,
  RejectionError,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import { type AccountIdentity, deriveRecipientAccessKey } from "@murmuration/pairwise";
import type { AccountRef, Contact, Contacts, IdentityChoice } from "../api.ts";
import { MAX_NAME_BYTES, shorten } from "../core/content.ts";
import { fingerprintOf, isContactCard, parseContactCard } from "../core/profile.ts";
import { isTemporary } from "../core/refusal.ts";
import type { Context } from "../shell/context.ts";
import type { Directory } from "../shell/directory.ts";
import type { Groups } from "../shell/groups.ts";
import { lanes } from "../shell/lanes.ts";
import type { Sender } from "../shell/sender.ts";
import type { ContactRow } from "../store/contacts.ts";
import { callersAccount } from "./view.ts";

/** What the rest of the client does about contacts. */
export interface ContactEffects {
  wake(lane: string): void;
  /** An identity was decided: what waited for it goes on. */
  decided(account: AccountId, accepted: boolean): Promise<void>;
  /** Inside the transaction: says so in the conversation. */
  identityChanged(account: AccountId): void;
}

export class ClientContacts implements Contacts {
  private readonly context: Context;
  private readonly directory: Directory;
  private readonly groups: Groups;
  private readonly sender: Sender;
  private readonly effects: ContactEffects;

  constructor(
    context: Context,
    directory: Directory,
    groups: Groups,
    sender: Sender,
    effects: ContactEffects,
  ) {
    this.context = context;
    this.directory = directory;
    this.groups = groups;
    this.sender = sender;
    this.effects = effects;
  }

  async add(cardOrAccountId: string, name?: string): Promise<Contact> {
    const { context } = this;
    const card = isContactCard(cardOrAccountId) ? parseContactCard(cardOrAccountId) : undefined;
    const account = card?.accountId ?? callersAccount(cardOrAccountId);
    if (context.isOwn(account)) throw new UsageError("contact/own-account");
    const identity = context.registered ? context.engine.identityOf(account) : undefined;
    // What the card says came from the contact, and the key that is known from the service.
    if (card !== undefined && identity !== undefined && !isKeyOf(card.fingerprint, identity))
      throw new RejectionError("contact/fingerprint-mismatch");
    context.transaction(() => {
      context.contacts.setFlags(account, { known: true, accepted: true });
      if (card !== undefined) {
        context.contacts.setProfileKey(account, card.profileKey);
        context.contacts.setFingerprint(account, card.fingerprint);
        context.contacts.setName(account, card.name);
        context.identities.learned(account);
      }
      if (name !== undefined) context.contacts.setGivenName(account, shorten(name, MAX_NAME_BYTES));
      if (context.conversations.get(account)?.state === "request") {
        context.conversations.setState(account, "active");
      }
      this.syncContact(account);
      context.events.append({ kind: "contact-changed", account, atMs: context.now() });
    });
    context.notifier.flush();
    this.effects.wake(lanes.own);
    return this.view(context.contacts.get(account)!);
  }

  get(accountId: AccountRef): Contact | undefined {
    const row = this.context.contacts.get(callersAccount(accountId));
    return row === undefined ? undefined : this.view(row);
  }

  list(): readonly Contact[] {
    return this.context.contacts.list().map((row) => this.view(row));
  }

  private view(row: ContactRow): Contact {
    const identity = this.context.registered ? this.context.engine.identityOf(row.account) : undefined;
    return {
      accountId: formatId(row.account),
      name: row.givenName || row.name,
      blocked: row.blocked,
      verified: identity !== undefined && (identity.verified || isKeyOf(row.fingerprint, identity)),
      keyChanged: identity?.claimedAccountKey !== undefined,
      reachable: row.profileKey !== undefined,
    };
  }

  private syncContact(account: AccountId): void {
    const row = this.context.contacts.get(account);
    if (row === undefined) return;
    this.sender.sync({ contacts: { contacts: [syncedContact(row)] } });
  }

  async block(accountId: AccountRef): Promise<void> {
    const { context } = this;
    const account = callersAccount(accountId);
    if (context.isOwn(account)) throw new UsageError("contact/own-account");
    context.transaction(() => {
      context.contacts.setFlags(account, { blocked: true, accepted: false, shared: false });
      if (context.conversations.get(account) !== undefined)
        context.conversations.setState(account, "blocked");
      this.renewProfileKey();
      this.syncContact(account);
      context.events.append({ kind: "contact-changed", account, atMs: context.now() });
    });
    context.notifier.flush();
    this.effects.wake(lanes.own);
    // The block holds here from now on; the service learns of it as soon as it can be reached.
    await this.publishProfile().catch(ignoreUnavailable);
  }

  /**
   * Inside a transaction: somebody who has the profile key shall reach this account with it no more. {@link publishProfile} says
   * so to everybody else.
   */
  renewProfileKey(): void {
    const { contacts, environment, meta } = this.context;
    meta.setBytes("previous-profile-key", meta.require("profile-key"));
    meta.setBytes("profile-key", environment.random(32));
    meta.setNumber("access-published", 0);
    contacts.unshareAll();
  }

  /**
   * Publishes the access key of the present profile key, and tells contacts and groups. Taken up again after an
   * interruption: every step says whether it was done.
   */
  async publishProfile(): Promise<void> {
    await this.publishToContacts();
    await this.publishToGroups();
  }

  /** The part of {@link publishProfile} for which nothing waits: a group may hold it up. */
  publishToGroups(): Promise<void> {
    return this.context.queue.run("groups-to-tell", () => this.tellGroups());
  }

  /** The rest of it, one at a time: whoever did it beside another would have the groups told again. */
  publishToContacts(): Promise<void> {
    return this.context.queue.run("profile", () => this.tellContacts());
  }

  private async tellContacts(): Promise<void> {
    const { context } = this;
    while (context.meta.number("access-published") !== 1) {
      const profileKey = context.meta.require("profile-key");
      const accessKey = deriveRecipientAccessKey(profileKey);
      await context.api.call("updateProfile", context.deviceAuthorisation, {
        accessKey,
        profile: new Uint8Array(0),
      });
      const woken = context.transaction(() => this.published(profileKey));
      for (const lane of woken) this.effects.wake(lane);
    }
  }

  /** Inside a transaction: the service has an access key. Lanes to wake; none where there is a newer one to publish. */
  private published(profileKey: Bytes): readonly string[] {
    const { contacts, conversations, meta, own } = this.context;
    if (!equalBytes(profileKey, meta.require("profile-key"))) return [];
    meta.setNumber("access-published", 1);
    meta.setBytes("groups-to-tell", concatBytes(...conversations.groupsWith(own.accountId)));
    const name = meta.text("name");
    const self = { accountId: own.accountId, profileKey, name, accepted: true, blocked: false };
    this.sender.sync({ contacts: { contacts: [self] } });
    const rest = contacts.sharedWith().filter((contact) => !contact.shared);
    return [lanes.own, ...rest.map((contact) => this.sender.shareProfile(contact.account))];
  }

  /** Each group that has not been told yet; one that cannot be told now is told with another connection. */
  private async tellGroups(): Promise<void> {
    const { context } = this;
    const name = context.meta.text("name");
    for (const id of this.groupsToTell()) {
      const profileKey = context.meta.require("profile-key");
      try {
        await this.groups.change(id, (state) =>
          state.members.get(formatId(context.own.accountId))?.invited === false
            ? { kind: "profile", profileKey, name }
            : undefined,
        );
      } catch (error) {
        if (isTemporary(error)) continue;
        ignoreUnavailable(error);
      }
      if (equalBytes(profileKey, context.meta.require("profile-key"))) this.groupIsTold(id);
    }
  }

  private groupsToTell(): readonly GroupId[] {
    const ids = this.context.meta.bytes("groups-to-tell") ?? new Uint8Array(0);
    return Array.from({ length: ids.length / ID_BYTES }, (_, i) =>
      groupId(ids.subarray(i * ID_BYTES, (i + 1) * ID_BYTES)),
    );
  }

  private groupIsTold(told: GroupId): void {
    const { context } = this;
    context.transaction(() => {
      const rest = this.groupsToTell().filter((id) => !equalBytes(id, told));
      context.meta.setBytes("groups-to-tell", concatBytes(...rest));
    });
  }

  async unblock(accountId: AccountRef): Promise<void> {
    const { context } = this;
    const account = callersAccount(accountId);
    context.transaction(() => {
      context.contacts.setFlags(account, { blocked: false });
      if (context.conversations.get(account)?.state === "blocked")
        context.conversations.setState(account, "request");
      this.syncContact(account);
      context.events.append({ kind: "contact-changed", account, atMs: context.now() });
    });
    context.notifier.flush();
    this.effects.wake(lanes.own);
  }

  private async known(account: AccountId): Promise<void> {
    if (this.context.engine.identityOf(account) !== undefined) return;
    const why = await this.directory.refreshDeviceList(account);
    if (why === undefined) return;
    if (why.kind === "later") throw new UnavailableError("contact/try-later");
    throw new RejectionError(why.kind === "refused" ? why.code : "accounts/unknown");
  }

  async safetyNumber(accountId: AccountRef): Promise<string> {
    const account = callersAccount(accountId);
    await this.known(account);
    const number = this.context.engine.safetyNumber(account);
    if (number === undefined) throw new RejectionError("accounts/unknown");
    return number.digits;
  }

  claimedSafetyNumber(accountId: AccountRef): string | undefined {
    return this.context.engine.claimedSafetyNumber(callersAccount(accountId))?.digits;
  }

  async setVerified(accountId: AccountRef, verified: boolean): Promise<void> {
    const { context } = this;
    const account = callersAccount(accountId);
    await this.known(account);
    const { accountIdentityKey } = context.engine.identityOf(account)!;
    await context.engine.setVerified({ accountId: account, accountIdentityKey, verified }, ({ writeSet }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        context.events.append({ kind: "contact-changed", account, atMs: context.now() });
      }),
    );
    context.notifier.flush();
  }

  async decideIdentity(accountId: AccountRef, choice: IdentityChoice): Promise<void> {
    const { context } = this;
    const account = callersAccount(accountId);
    // The key whose number is looked at here is the one that the engine is asked to accept, or it refuses.
    const claimedAccountKey = context.engine.identityOf(account)?.claimedAccountKey;
    if (claimedAccountKey === undefined) throw new UsageError("contact/nothing-to-decide");
    const accept = choice.keep === "claimed";
    if (accept && choice.safetyNumber !== context.engine.claimedSafetyNumber(account)?.digits)
      throw new UsageError("contact/other-number");
    await context.engine.decideIdentity({ accountId: account, claimedAccountKey, accept }, ({ writeSet }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        if (accept) {
          this.effects.identityChanged(account);
          // The card that there was is of the other key, and would have the service's next list refused.
          context.contacts.setFingerprint(account, undefined);
          context.heard.forget(account);
          context.identities.learned(account);
        } else context.held.removeOf(account);
        context.events.append({ kind: "contact-changed", account, atMs: context.now() });
      }),
    );
    context.notifier.flush();
    await this.effects.decided(account, accept);
  }
}

/** Whether a contact card or invite link has named this very key. */
/** A contact as the own other devices are told of it. */
export function syncedContact(row: ContactRow) {
  const { account: accountId, accepted, blocked, fingerprint, name, profileKey } = row;
  return {
    accountId,
    name,
    accepted,
    blocked,
    ...(profileKey === undefined ? {} : { profileKey }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
  };
}

function isKeyOf(fingerprint: Bytes | undefined, { accountIdentityKey }: AccountIdentity): boolean {
  return fingerprint !== undefined && equalBytes(fingerprint, fingerprintOf(accountIdentityKey));
}

function ignoreUnavailable(error: unknown): void {
  if (error instanceof UnavailableError || error instanceof RejectionError) return;
  throw error;
}
