/** Content of a community: what members say, and what the group is called. Runs inside transactions. */
import {
  type AccountId,
  type Bytes,
  type DeviceId,
  equalBytes,
  type GroupId,
  RejectionError,
} from "@murmuration/base";
import { type CommitDescription, decodeMemberCredential, roleOf } from "@murmuration/mls-groups";
import { bodyKind, type Content, decodeContent, encodeContent, groupProfile } from "../../core/content.ts";
import { PROFILE_OWED } from "../../store/mls.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import type { Lines } from "../lines.ts";
import { hashOfProfile, knownProfile } from "./profile.ts";
import type { ProfileRequests } from "./profile-requests.ts";
import type { Registry } from "./registry.ts";
import type { SharedHistory } from "./shared-history.ts";

export interface CommunityMessage {
  readonly author: AccountId;
  readonly device: DeviceId;
  /** The account identity key that the sender's leaf stands for. */
  readonly identityKey: Bytes;
  readonly body: Uint8Array;
  readonly atMs: number;
}

/** What may be said in a community; receipts, typing and the pairwise groups' own messages may not. */
const ALLOWED: ReadonlySet<string> = new Set([
  "text",
  "edit",
  "reaction",
  "delete",
  "groupProfile",
  "profileRequest",
  "sharedHistory",
  "pin",
  "groupChange",
]);

export class CommunityContent {
  private readonly context: Context;
  private readonly registry: Registry;
  private readonly lines: Lines;
  private readonly profiles: ProfileRequests;
  private readonly past: SharedHistory;
  private readonly spoken: (id: GroupId, message: CommunityMessage, content: Content) => boolean;

  constructor(
    context: Context,
    registry: Registry,
    lines: Lines,
    profiles: ProfileRequests,
    past: SharedHistory,
    spoken: (id: GroupId, message: CommunityMessage, content: Content) => boolean,
  ) {
    this.spoken = spoken;
    this.profiles = profiles;
    this.past = past;
    this.context = context;
    this.registry = registry;
    this.lines = lines;
  }

  /** Applies one message. Content that breaks a rule changes nothing. */
  receive(id: GroupId, message: CommunityMessage): void {
    this.inSavepoint(() => this.apply(id, message, decodeContent(message.body)));
  }

  private inSavepoint(work: () => void): void {
    const { storage } = this.context;
    storage.run("SAVEPOINT content");
    try {
      work();
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      storage.run("ROLLBACK TO content");
    }
    storage.run("RELEASE content");
  }

  private apply(id: GroupId, message: CommunityMessage, content: Content): void {
    // The conversation goes by another protocol until the switch, and nothing is heard twice.
    if (this.registry.communityOf(id).preparing) throw new RejectionError("content/not-yet");
    if (content.group === undefined || !equalBytes(content.group.groupId, this.context.mls.wireIdOf(id)))
      throw new RejectionError("content/foreign-conversation");
    const kind = bodyKind(content);
    if (kind === undefined || !ALLOWED.has(kind)) throw new RejectionError("content/not-in-a-community");
    // A change of the record is signed itself. Whatever is held for its turn is held of somebody who may be believed then.
    if (kind !== "groupChange" && !this.isTrusted(id, message.author, message.identityKey)) return;
    // A conversation that was pairwise has more to look after.
    const hasMoved = !equalBytes(this.context.mls.wireIdOf(id), id);
    if (hasMoved && this.spoken(id, message, content)) return;
    if (kind === "groupChange") throw new RejectionError("content/not-in-a-community");
    this.take(id, message, content);
  }

  /** What was held back until its turn. Its author may have left since; and more may be known of it by now. */
  show(id: GroupId, message: CommunityMessage): void {
    if (!this.isTrusted(id, message.author, message.identityKey)) return;
    this.inSavepoint(() => this.take(id, message, decodeContent(message.body)));
  }

  private take(id: GroupId, message: CommunityMessage, content: Content): void {
    const { context } = this;
    const { author, device, atMs } = message;
    if (!this.maySpeak(id, author)) throw new RejectionError("content/not-allowed");
    const seen = { conversation: id, author, device, message: content.messageId };
    if (!context.history.noteSeen(seen, context.now())) return;
    if (content.group?.name !== undefined) this.learnName(author, content.group.name);
    if (content.groupProfile !== undefined) {
      this.applyProfile(id, message, content);
      return;
    }
    if (content.profileRequest !== undefined) {
      this.profiles.receive(id, author, content.profileRequest);
      return;
    }
    if (content.sharedHistory !== undefined) {
      this.past.receive(id, author, content.sharedHistory.items);
      return;
    }
    this.lines.apply(content, {
      conversation: id,
      author,
      authorDevice: device,
      outgoing: context.isOwn(author),
      sentAtMs: atMs,
    });
  }

  /** The group's word, whatever the service let through: both look at the settings that hold at this place of the log. */
  private maySpeak(id: GroupId, author: AccountId): boolean {
    const community = this.registry.communityOf(id);
    return !community.announcementOnly || roleOf(community, author) !== "member";
  }

  /** Inside the transaction of another's commit: newcomers who can neither ask for the profile nor were told it, and a new profile. */
  cameWithout(id: GroupId, { added, after, committer }: CommitDescription): void {
    this.profiles.expect(id, after);
    if (added.length === 0 || !after.announcementOnly) return;
    const leaf = committer === undefined ? undefined : this.registry.load(id).group.tree.leaf(committer);
    const adder = leaf === undefined ? undefined : decodeMemberCredential(leaf.credential).accountId;
    if (adder === undefined || roleOf(after, adder) === "member") this.profiles.owe(id, after);
  }

  /** A leaf may stand for another identity key than we know this account by. */
  private isTrusted(id: GroupId, account: AccountId, identityKey: Bytes): boolean {
    const { identities } = this.context;
    if (identities.compare(account, identityKey) !== "other") return true;
    identities.tellOfOther(id, { account, identityKey });
    return false;
  }

  private learnName(author: AccountId, name: string): void {
    const { contacts } = this.context;
    if (this.context.isOwn(author) || contacts.nameOf(author) === name) return;
    contacts.ensure(author);
    contacts.setName(author, name);
  }

  /** Counts only if the group context vouches for it. */
  private applyProfile(id: GroupId, message: CommunityMessage, content: Content): void {
    const { context } = this;
    const profile = content.groupProfile!;
    const encoded = groupProfile.encode(profile);
    if (!equalBytes(hashOfProfile(encoded), this.registry.communityOf(id).profileHash)) return;
    const { profile: before, profileSaidAtMs } = context.mls.group(id)!;
    const isOwed = profileSaidAtMs === PROFILE_OWED;
    context.mls.setProfile(id, encoded, isOwed ? PROFILE_OWED : context.now());
    // Those whom a commit on its way adds cannot read yet what is said: they are told when they are there.
    this.sayOwed(id);
    const title = context.conversations.get(id)?.title;
    context.conversations.setTitle(id, profile.title);
    if (before !== undefined && equalBytes(before, encoded)) return;
    context.events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
    if (before === undefined || title === profile.title) return;
    this.lines.appendNotice(
      content.messageId,
      {
        conversation: id,
        author: message.author,
        authorDevice: message.device,
        outgoing: context.isOwn(message.author),
        sentAtMs: message.atMs,
      },
      { code: "group/title-changed", title: profile.title },
    );
  }

  /** After a commit of ours: if it made the profile what we meant to make it, everybody is told. */
  profileCommitted(id: GroupId): void {
    const { context } = this;
    const next = context.mls.group(id)?.nextProfile;
    if (next === undefined) return;
    if (!equalBytes(hashOfProfile(next), this.registry.communityOf(id).profileHash)) return;
    context.mls.setNextProfile(id, null);
    context.mls.setProfile(id, next, context.now());
    context.conversations.setTitle(id, groupProfile.decode(next).title);
    context.events.append({ kind: "conversation-changed", conversation: id, atMs: context.now() });
    this.sayProfile(id);
  }

  /** No commit of ours is on its way any more: where a Welcome could not say the profile, it is said to all. */
  sayOwed(id: GroupId): void {
    const { mls } = this.context;
    if (mls.group(id)?.profileSaidAtMs !== PROFILE_OWED || mls.pendingCommit(id) !== undefined) return;
    // Where it may not write, owners and admins owe it as well.
    if (!this.maySpeak(id, this.context.own.accountId)) return;
    if (knownProfile(this.context, id, this.registry.communityOf(id)) !== undefined) this.sayProfile(id);
  }

  /**
   * Puts the group profile into the outbox. Somebody may have changed it and not said yet what it is, in an epoch that those
   * who have just come cannot read: then they hear it from us as soon as we know it.
   */
  sayProfile(id: GroupId): void {
    const { context } = this;
    // While the conversation is pairwise nobody has anything to say in the group that is being prepared.
    if (context.migration.isMoving(id)) return;
    const profile = knownProfile(context, id, this.registry.communityOf(id));
    if (profile === undefined) {
      context.mls.setProfileOwed(id);
      return;
    }
    const messageId = context.newMessageId();
    const group = { groupId: id, revision: 0 };
    const { accountId: author, deviceId: device } = context.own;
    context.history.noteSeen({ conversation: id, author, device, message: messageId }, context.now());
    context.outbox.append({
      lane: lanes.group(id),
      target: { kind: "group", group: id },
      messageId,
      content: encodeContent({ messageId, group, groupProfile: groupProfile.decode(profile) }),
      confirm: false,
      createdAtMs: context.now(),
    });
    context.mls.setProfile(id, profile, context.now());
  }
}
