/**
 * Links that let nobody in without an admin's word. The joiner asks the account that made the link, over a pairwise
 * session; that account's client keeps the request and tells its user; the answer, signed by a leaf of the group, comes
 * back the same way and goes into the ticket of the joiner's leaf.
 *
 *   joiner   PERSIST that it waits, with the request in the outbox -> PERSIST the answer -> join
 *   admin    PERSIST the request and its event -> PERSIST the answer in the outbox, and forget the request
 */
import {
  type AccountId,
  type DeviceAddress,
  equalBytes,
  type GroupId,
  RejectionError,
  toBase64Url,
  UsageError,
} from "@murmuration/base";
import {
  approveJoin,
  type CommunityContext,
  createJoinTicket,
  linkHasExpired,
  linkOf,
  type InviteLink as OpenLink,
  roleOf,
  verifyLinkSignature,
} from "@murmuration/mls-groups";
import { type Content, encodeContent } from "../../core/content.ts";
import type { InviteLink } from "../../core/invite-link.ts";
import { fingerprintOf } from "../../core/profile.ts";
import type { JoinRequestRow } from "../../store/mls.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import type { Governance } from "./governance.ts";
import type { GroupNames } from "./group-names.ts";
import { communityCrypto, communityIdentity } from "./identity.ts";
import type { Registry } from "./registry.ts";

/** Who made a link, as a leaf of the group shows. */
export interface Inviter {
  readonly accountId: AccountId;
  readonly accountIdentityKey: Uint8Array;
}

export interface ApprovalEffects {
  wake(lane: string): void;
  /** Fetches the newest device list of an account that the service has. UnavailableError. */
  refreshDeviceList(account: AccountId): Promise<void>;
}

/** Requests that are kept for one group. */
const MAX_REQUESTS = 200;
/** Who was refused is not shown again for this time. */
const REFUSED_FOR_MS = 86_400_000;
/** Nobody waits longer than this. */
const FORGOTTEN_AFTER_MS = 30 * 86_400_000;

export class Approvals {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly governance: Pick<Governance, "isBanned">;
  private readonly effects: ApprovalEffects;

  constructor(
    context: Context,
    names: GroupNames,
    registry: Registry,
    governance: Pick<Governance, "isBanned">,
    effects: ApprovalEffects,
  ) {
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.governance = governance;
    this.effects = effects;
  }

  // ------------------------------------------------------------------------------------------- the joiner

  /**
   * Asks the account that made the link; the join waits from here on. The session has to be with whoever has the key that the link
   * names, and with nobody else. Whoever made the link says nothing of that account by it: what it names is compared with what
   * is known, and not remembered. RejectionError `pairwise/identity-changed` where the account has another key, `link/own-link`;
   * UnavailableError.
   */
  async ask(link: InviteLink, { accountId: account, accountIdentityKey }: Inviter): Promise<void> {
    const { context } = this;
    if (context.isOwn(account)) throw new RejectionError("link/own-link");
    if (context.identities.compare(account, accountIdentityKey) === "unknown")
      await this.effects.refreshDeviceList(account);
    if (context.identities.compare(account, accountIdentityKey) !== "same")
      throw new RejectionError("pairwise/identity-changed");
    const id = this.names.conversation(link.groupId);
    // A Welcome may have been faster than the device list.
    if (context.mls.group(id)?.state !== "stuck") return;
    context.transaction(() => {
      context.contacts.ensure(account);
      context.mls.setAsked(id, account);
      context.mls.setState(id, "waiting");
      this.append(account, { ...this.introduction(), joinRequest: this.requestFor(link) });
    });
    this.effects.wake(lanes.account(account));
  }

  private requestFor(link: InviteLink): NonNullable<Content["joinRequest"]> {
    const { groupId, linkId, seed: linkSeed } = link;
    const signatureKey = communityIdentity(this.context).signatureKeys.publicKey;
    const { linkSignature } = createJoinTicket(communityCrypto, {
      groupId,
      linkId,
      linkSeed,
      signatureKey,
    });
    return { groupId, linkId, signatureKey, linkSignature };
  }

  /** So that the answer can come sealed, and from us to a name. */
  private introduction(): Pick<Content, "profile"> {
    const { meta } = this.context;
    return { profile: { profileKey: meta.require("profile-key"), name: meta.text("name") } };
  }

  /** Inside a transaction: the answer. Only of the account that was asked, and for this device's key. */
  receiveAnswer(sender: AccountId, answer: NonNullable<Content["joinApproval"]>): void {
    const { context } = this;
    const { groupId: wireId, linkId, signatureKey, approver, signature } = answer;
    const id = this.names.conversation(wireId);
    const waiting = context.mls.waitingJoin(id);
    if (waiting === undefined || context.mls.group(id)?.state !== "waiting") return;
    if (!equalBytes(waiting.inviter, sender) || !equalBytes(waiting.link.linkId, linkId)) return;
    if (!equalBytes(communityIdentity(context).signatureKeys.publicKey, signatureKey)) return;
    const known = context.engine.identityOf(sender)?.accountIdentityKey;
    if (known === undefined || !equalBytes(fingerprintOf(known), waiting.link.fingerprint)) return;
    if (approver === undefined || signature === undefined) {
      context.mls.delete(id);
      return;
    }
    context.mls.setApproval(id, { approver, signature });
    context.mls.setState(id, "stuck");
  }

  // -------------------------------------------------------------------------------------------- the admin

  /** Inside a transaction: somebody who has the link asks. Returns whether the request is one to be kept. */
  receiveRequest(sender: DeviceAddress, request: NonNullable<Content["joinRequest"]>): boolean {
    const { context } = this;
    const { groupId: wireId, linkId, signatureKey, linkSignature } = request;
    const id = this.names.conversation(wireId);
    if (context.mls.group(id)?.state !== "active") return false;
    if (context.conversations.get(id)?.state !== "active") return false;
    const community = this.registry.communityOf(id);
    const link = this.openLink(community, linkId);
    if (link === undefined || !this.mayApprove(community)) return false;
    const use = { groupId: this.names.wire(id), linkId, signatureKey };
    if (!verifyLinkSignature(communityCrypto, link, use, linkSignature)) return false;
    const { accountId: account, deviceId: device } = sender;
    if (context.conversations.member(id, account) !== undefined || this.isBanned(id, account)) return false;
    return this.keep(id, { account, device, linkId, signatureKey, atMs: context.now() });
  }

  private keep(id: GroupId, request: Omit<JoinRequestRow, "refused">): boolean {
    const { events, mls } = this.context;
    const { account, device, linkId, atMs } = request;
    mls.forgetJoinRequests(id, { before: atMs - FORGOTTEN_AFTER_MS, refusedBefore: atMs - REFUSED_FOR_MS });
    const rows = mls.joinRequests(id);
    const known = rows.find((row) => equalBytes(row.account, account) && row.device === device);
    if (known?.refused === true) return false;
    if (known === undefined && rows.length >= MAX_REQUESTS) return false;
    const asked = rows.some((row) => equalBytes(row.account, account) && !row.refused);
    mls.putJoinRequest(id, request);
    if (!asked)
      events.append({
        kind: "join-requested",
        conversation: id,
        account,
        detail: toBase64Url(linkId),
        atMs,
      });
    return true;
  }

  /** The link with this id, where it asks for approval and has not expired. */
  private openLink(community: CommunityContext, linkId: Uint8Array): OpenLink | undefined {
    const link = linkOf(community, linkId);
    return link?.approval && !linkHasExpired(link, this.context.now()) ? link : undefined;
  }

  private mayApprove(community: CommunityContext): boolean {
    return roleOf(community, this.context.own.accountId) !== "member";
  }

  private isBanned(id: GroupId, account: AccountId): boolean {
    try {
      return this.governance.isBanned(id, account);
    } catch (error) {
      // The list is not here: whoever lets a banned account in is refused by everybody else.
      if (error instanceof UsageError) return false;
      throw error;
    }
  }

  /** Those who wait for an answer of ours, by a link that is still open. */
  requests(id: GroupId): readonly JoinRequestRow[] {
    const community = this.registry.communityOf(id);
    if (!this.mayApprove(community)) return [];
    return this.context.mls
      .joinRequests(id)
      .filter(({ linkId, refused }) => !refused && this.openLink(community, linkId) !== undefined);
  }

  /** Signs for each device of the account that asked. UsageError `group/not-an-admin`, `group/no-such-request`. */
  approve(id: GroupId, account: AccountId): void {
    const { context } = this;
    const requests = this.requestsOf(id, account);
    const { group } = this.registry.load(id);
    context.transaction(() => {
      for (const { linkId, signatureKey } of requests)
        this.answer(id, account, { linkId, signatureKey, ...approveJoin(group, { linkId, signatureKey }) });
      context.mls.deleteJoinRequests(id, account);
    });
    this.effects.wake(lanes.account(account));
  }

  /** Says no; the account is not shown again for a day. UsageError as for `approve`. */
  refuse(id: GroupId, account: AccountId): void {
    const { context } = this;
    const requests = this.requestsOf(id, account);
    context.transaction(() => {
      for (const { linkId, signatureKey } of requests) this.answer(id, account, { linkId, signatureKey });
      context.mls.refuseJoinRequests(id, account, context.now());
    });
    this.effects.wake(lanes.account(account));
  }

  private requestsOf(id: GroupId, account: AccountId): readonly JoinRequestRow[] {
    if (!this.mayApprove(this.registry.communityOf(id))) throw new UsageError("group/not-an-admin");
    const requests = this.requests(id).filter((row) => equalBytes(row.account, account));
    if (requests.length === 0) throw new UsageError("group/no-such-request");
    return requests;
  }

  private answer(
    id: GroupId,
    account: AccountId,
    answer: Omit<NonNullable<Content["joinApproval"]>, "groupId">,
  ): void {
    this.append(account, { joinApproval: { groupId: this.names.wire(id), ...answer } });
  }

  /** Inside a transaction: puts something for one account into the outbox, without a conversation. */
  private append(account: AccountId, body: Partial<Content>): void {
    const { context } = this;
    const messageId = context.newMessageId();
    context.outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      messageId,
      content: encodeContent({ messageId, ...body }),
      confirm: false,
      createdAtMs: context.now(),
    });
  }
}
