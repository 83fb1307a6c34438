import { formatId, fromBase64Url, type GroupId, toBase64Url, UsageError } from "@murmuration/base";
import type {
  AccountRef,
  AttachmentPointer,
  Community,
  CommunitySettings,
  CommunityStanding,
  InviteLinkInfo,
  JoinRequest,
} from "../api.ts";
import { type GroupProfile, MAX_DESCRIPTION_BYTES, MAX_PICTURE_BYTES, shorten } from "../core/content.ts";
import type { Governance } from "../shell/communities/governance.ts";
import type { ClientParts } from "./parts.ts";
import { attachmentOf, callersAccount, viewAttachment } from "./view.ts";

/** A year: who wants a link for longer wants one that never expires. */
const LONGEST_LINK_SECONDS = 365 * 86_400;

/** The side of a conversation that only communities have; every call reads the present state. */
export class ClientCommunity implements Community {
  private readonly parts: ClientParts;
  private readonly group: GroupId;

  constructor(parts: ClientParts, group: GroupId) {
    this.parts = parts;
    this.group = group;
  }

  private get governance(): Governance {
    return this.parts.communities.governance;
  }

  private requireActive(): void {
    if (this.parts.context.conversations.get(this.group)?.state !== "active")
      throw new UsageError("conversation/not-active");
  }

  settings(): CommunitySettings {
    return this.governance.settingsOf(this.group);
  }

  async setSettings(settings: Partial<CommunitySettings>): Promise<void> {
    this.requireActive();
    await this.governance.setSettings(this.group, settings);
  }

  async ban(account: AccountRef): Promise<void> {
    this.requireActive();
    await this.governance.ban(this.group, callersAccount(account));
  }

  async unban(account: AccountRef): Promise<void> {
    this.requireActive();
    await this.governance.unban(this.group, callersAccount(account));
  }

  isBanned(account: AccountRef): boolean {
    return this.governance.isBanned(this.group, callersAccount(account));
  }

  async createLink(
    options: {
      readonly maxUses?: number;
      readonly approval?: boolean;
      readonly expiresInSeconds?: number | undefined;
    } = {},
  ): Promise<InviteLinkInfo> {
    this.requireActive();
    const { maxUses = 0, approval = false, expiresInSeconds } = options;
    if (!Number.isInteger(maxUses) || maxUses < 0 || maxUses > 0xffff_ffff)
      throw new UsageError("link/bad-uses");
    const expiresAtMs = expiresInSeconds === undefined ? 0 : this.expiryIn(expiresInSeconds);
    return this.governance.createLink(this.group, { maxUses, approval, expiresAtMs });
  }

  private expiryIn(seconds: number): number {
    if (!Number.isInteger(seconds) || seconds < 1 || seconds > LONGEST_LINK_SECONDS)
      throw new UsageError("link/bad-expiry");
    return this.parts.context.now() + seconds * 1000;
  }

  links(): readonly InviteLinkInfo[] {
    return this.governance.links(this.group);
  }

  async revokeLink(linkId: string): Promise<void> {
    this.requireActive();
    await this.governance.revokeLink(this.group, fromBase64Url(linkId));
  }

  /** Two look-ups by key. */
  get standing(): CommunityStanding {
    const { state, forked } = this.parts.context.mls.group(this.group) ?? { state: "over", forked: false };
    if (state === "over") return "over";
    if (forked) return "forked";
    if (state === "stuck") return "set-aside";
    return state === "active" ? "following" : "entering";
  }

  get description(): string {
    return this.governance.profileOf(this.group).description;
  }

  async setDescription(description: string): Promise<void> {
    await this.setProfile({ description: shorten(description, MAX_DESCRIPTION_BYTES) });
  }

  async setTitle(title: string): Promise<void> {
    await this.setProfile({ title });
  }

  get picture(): AttachmentPointer | undefined {
    const { picture } = this.governance.profileOf(this.group);
    // Whoever may change the profile may say anything: what nobody should load is no picture.
    return picture === undefined || picture.size > MAX_PICTURE_BYTES ? undefined : viewAttachment(picture);
  }

  async setPicture(picture: AttachmentPointer | undefined): Promise<void> {
    if (picture !== undefined && picture.size > MAX_PICTURE_BYTES)
      throw new UsageError("attachment/too-large");
    this.requireActive();
    const { picture: _, ...rest } = this.governance.profileOf(this.group);
    const profile = picture === undefined ? rest : { ...rest, picture: attachmentOf(picture) };
    await this.governance.setProfile(this.group, profile);
  }

  private async setProfile(change: Partial<GroupProfile>): Promise<void> {
    this.requireActive();
    await this.governance.setProfile(this.group, { ...this.governance.profileOf(this.group), ...change });
  }

  joinRequests(): readonly JoinRequest[] {
    const { communities, context } = this.parts;
    const byAccount = new Map<string, JoinRequest>();
    for (const { account, linkId, atMs } of communities.approvals.requests(this.group)) {
      const accountId = formatId(account);
      if (byAccount.has(accountId)) continue;
      const contact = context.contacts.get(account);
      const name = contact?.givenName || contact?.name || "";
      byAccount.set(accountId, { accountId, name, linkId: toBase64Url(linkId), requestedAtMs: atMs });
    }
    return [...byAccount.values()];
  }

  async approveJoin(account: AccountRef): Promise<void> {
    this.requireActive();
    this.parts.communities.approvals.approve(this.group, callersAccount(account));
  }

  async refuseJoin(account: AccountRef): Promise<void> {
    this.requireActive();
    this.parts.communities.approvals.refuse(this.group, callersAccount(account));
  }

  async shareHistory(count?: number): Promise<number> {
    this.requireActive();
    return this.parts.communities.past.share(this.group, count);
  }

  heal(): Promise<void> {
    return this.parts.communities.heal(this.group);
  }
}
