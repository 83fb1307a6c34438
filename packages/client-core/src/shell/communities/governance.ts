/**
 * Roles, settings, links and bans: everything that stands in the group context. Each change is one commit, decided on
 * the newest context and made anew after a lost race; what roles do not allow is refused here by the same policy that
 * every member and the service run.
 */
import {
  type AccountId,
  type Bytes,
  equalBytes,
  type GroupId,
  RejectionError,
  UsageError,
} from "@murmuration/base";
import {
  BanList,
  type CommunityContext,
  communityContextOf,
  communityExtensions,
  type Group,
  type InviteLink,
  linkHasExpired,
  MAX_LINKS,
  type Proposal,
  signForService,
} from "@murmuration/mls-groups";
import { encodeGroupBanTbs, GROUP_BAN_LABEL } from "@murmuration/wire";
import type { CommunitySettings, InviteLinkInfo, Role } from "../../api.ts";
import { type GroupProfile, groupProfile, LINK_ID_BYTES, MAX_EXPIRY_SECONDS } from "../../core/content.ts";
import { formatInviteLink } from "../../core/invite-link.ts";
import { fingerprintOf } from "../../core/profile.ts";
import { isTemporary } from "../../core/refusal.ts";
import type { Context } from "../context.ts";
import type { Committer, DecideCommit } from "./committer.ts";
import type { GroupNames } from "./group-names.ts";
import { communityCrypto, communityIdentity } from "./identity.ts";
import { encodeProfile, hashOfProfile } from "./profile.ts";
import type { Registry } from "./registry.ts";

interface Besides {
  readonly proposals?: readonly Proposal[];
  readonly banList?: BanList;
}

const ORDER_ID_BYTES = 16;
const MAX_SLOW_MODE_SECONDS = 86_400;

export class Governance {
  private readonly context: Context;
  private readonly names: GroupNames;
  private readonly registry: Registry;
  private readonly committer: Committer;

  constructor(context: Context, names: GroupNames, registry: Registry, committer: Committer) {
    this.context = context;
    this.names = names;
    this.registry = registry;
    this.committer = committer;
  }

  /** `change` sees the newest context and may be asked again; undefined: nothing to do. */
  private change(
    id: GroupId,
    change: (community: CommunityContext, group: Group) => CommunityContext | undefined,
    besides: (community: CommunityContext, group: Group) => Besides = () => ({}),
  ): Promise<void> {
    const decide: DecideCommit = (group) => {
      const community = communityContextOf(group.context.extensions);
      const next = change(community, group);
      if (next === undefined) return undefined;
      const { proposals = [], banList } = besides(community, group);
      const context: Proposal = { kind: "group_context_extensions", extensions: communityExtensions(next) };
      const options = { proposals: [context, ...proposals] };
      return banList === undefined ? { options } : { options, banList: banList.encode() };
    };
    return this.committer.commit(id, decide);
  }

  // ------------------------------------------------------------------------------------ roles and settings

  async setRole(id: GroupId, account: AccountId, role: Role): Promise<void> {
    await this.change(id, (community) => {
      const { roleHolders } = community;
      const before = roleHolders.find(({ accountId }) => equalBytes(accountId, account))?.role ?? "member";
      if (before === role) return undefined;
      const others = roleHolders.filter(({ accountId }) => !equalBytes(accountId, account));
      const next = role === "member" ? others : [...others, { accountId: account, role }];
      if (!next.some((holder) => holder.role === "owner")) throw new UsageError("group/last-owner");
      return { ...community, roleHolders: next };
    });
  }

  settingsOf(id: GroupId): CommunitySettings {
    const { addBy, profileBy, announcementOnly, slowModeSeconds, joinsPerMinute } =
      this.registry.communityOf(id);
    return { addBy, profileBy, announcementOnly, slowModeSeconds, joinsPerMinute };
  }

  async setSettings(id: GroupId, settings: Partial<CommunitySettings>): Promise<void> {
    const { slowModeSeconds = 0, joinsPerMinute = 0 } = settings;
    for (const value of [slowModeSeconds, joinsPerMinute]) {
      if (!Number.isInteger(value) || value < 0 || value > MAX_SLOW_MODE_SECONDS)
        throw new UsageError("group/bad-setting");
    }
    await this.change(id, (community) => {
      const next = { ...community, ...settings };
      return Object.entries(settings).every(
        ([key, value]) => community[key as keyof CommunitySettings] === value,
      )
        ? undefined
        : next;
    });
  }

  async setExpiry(id: GroupId, expireAfterSeconds: number): Promise<void> {
    if (expireAfterSeconds > MAX_EXPIRY_SECONDS) throw new UsageError("conversation/bad-expiry");
    await this.change(id, (community) =>
      community.expireAfterSeconds === expireAfterSeconds ? undefined : { ...community, expireAfterSeconds },
    );
  }

  /** The group profile as it was last said. */
  profileOf(id: GroupId): GroupProfile {
    const profile = this.context.mls.group(id)?.profile;
    return profile === undefined ? { title: "", description: "" } : groupProfile.decode(profile);
  }

  /**
   * The hash goes into the group context. PERSIST first what it is the hash of: whoever merges the commit here, also after
   * a crash, tells the members.
   */
  async setProfile(id: GroupId, profile: GroupProfile): Promise<void> {
    const encoded = encodeProfile(profile);
    const profileHash = hashOfProfile(encoded);
    this.context.transaction(() => this.context.mls.setNextProfile(id, encoded));
    await this.change(id, (community) =>
      equalBytes(community.profileHash, profileHash) ? undefined : { ...community, profileHash },
    );
  }

  // --------------------------------------------------------------------------------------------------- bans

  /**
   * Bans an account: the service cuts its leaves off at once, and one commit puts it on the ban list and removes them.
   * Whoever is no member yet is kept from becoming one. PERSIST the wish first: only who ordered a ban carries it out, so
   * it is done with the next connection where this one breaks in between.
   */
  async ban(id: GroupId, account: AccountId): Promise<void> {
    if (this.context.isOwn(account)) throw new UsageError("group/own-account");
    this.context.transaction(() => this.context.mls.addJob(id, [account], "ban"));
    await this.carryOutBan(id, account);
  }

  /** Bans that were ordered here and not committed. */
  async resumeBans(id: GroupId): Promise<void> {
    for (const { account } of this.context.mls.jobs(id, "ban")) {
      try {
        await this.carryOutBan(id, account);
      } catch (error) {
        // Refused for good, and forgotten: nobody waits for it any more.
        if (!isForGood(error)) throw error;
      }
    }
  }

  private async carryOutBan(id: GroupId, account: AccountId): Promise<void> {
    const forget = () => this.context.transaction(() => this.context.mls.deleteJob(id, account, "ban"));
    try {
      await this.orderAndCommitBan(id, account);
      forget();
    } catch (error) {
      if (isForGood(error)) forget();
      throw error;
    }
  }

  /** Whether this account's leaves are to be removed, by the group's word or by ours: never by the service's alone. */
  isToBeRemoved(id: GroupId, account: AccountId): boolean {
    if (this.context.mls.jobs(id, "ban").some((job) => equalBytes(job.account, account))) return true;
    const { banListHash } = this.registry.communityOf(id);
    const list = banListHash.length === 0 ? undefined : this.context.mls.banList(banListHash);
    return list !== undefined && BanList.decode(list).has(this.names.wire(id), account);
  }

  private async orderAndCommitBan(id: GroupId, account: AccountId): Promise<void> {
    const leaves = () => this.context.mls.leavesOf(id, account).map(({ leaf }) => leaf);
    await this.order(id, leaves());
    const list = (community: CommunityContext) =>
      this.banListOf(community).with(this.names.wire(id), account);
    await this.change(
      id,
      (community) =>
        this.banListOf(community).has(this.names.wire(id), account)
          ? undefined
          : { ...withoutExpected(community, account), banListHash: list(community).hash() },
      (community) => ({
        banList: list(community),
        proposals: leaves().map((removed): Proposal => ({ kind: "remove", removed })),
      }),
    );
  }

  async unban(id: GroupId, account: AccountId): Promise<void> {
    this.context.transaction(() => this.context.mls.deleteJob(id, account, "ban"));
    const list = (community: CommunityContext) =>
      this.banListOf(community).without(this.names.wire(id), account);
    await this.change(
      id,
      (community) => {
        if (!this.banListOf(community).has(this.names.wire(id), account)) return undefined;
        const next = list(community);
        return { ...community, banListHash: next.size === 0 ? new Uint8Array(0) : next.hash() };
      },
      (community) => {
        const next = list(community);
        return next.size === 0 ? {} : { banList: next };
      },
    );
  }

  isBanned(id: GroupId, account: AccountId): boolean {
    return this.banListOf(this.registry.communityOf(id)).has(this.names.wire(id), account);
  }

  private banListOf({ banListHash }: CommunityContext): BanList {
    if (banListHash.length === 0) return BanList.empty;
    const list = this.context.mls.banList(banListHash);
    if (list === undefined) throw new UsageError("group/ban-list-missing");
    return BanList.decode(list);
  }

  /** The order that takes effect before anything is committed. */
  private async order(id: GroupId, leaves: readonly number[]): Promise<void> {
    if (leaves.length === 0) return;
    const { group } = this.registry.load(id);
    const signatureKeys = leaves.flatMap((leaf) => {
      const key = group.tree.signatureKey(leaf);
      return key === undefined ? [] : [new Uint8Array(key)];
    });
    const orderId = this.context.environment.random(ORDER_ID_BYTES);
    const { privateKey } = communityIdentity(this.context).signatureKeys;
    const tbs = encodeGroupBanTbs({ groupId: this.names.wire(id), orderId, signatureKeys });
    const signature = signForService(communityCrypto, privateKey, GROUP_BAN_LABEL, tbs);
    await this.names.ask({
      kind: "groupBan",
      groupId: id,
      leafIndex: group.ownLeaf,
      orderId,
      signatureKeys,
      signature,
    });
  }

  // -------------------------------------------------------------------------------------------------- links

  /** Makes an invite link. PERSIST its secret first: a link that nobody can show any more would stay open. */
  async createLink(
    id: GroupId,
    options: Pick<InviteLink, "maxUses" | "approval" | "expiresAtMs">,
  ): Promise<InviteLinkInfo> {
    const linkId = this.context.environment.random(LINK_ID_BYTES);
    const { privateKey: seed, publicKey } = communityCrypto.generateSignatureKeyPair();
    this.context.transaction(() => this.context.mls.putLink(id, linkId, seed));
    const link = { linkId, publicKey, ...options };
    await this.change(id, (community) =>
      community.links.some((open) => equalBytes(open.linkId, linkId))
        ? undefined
        : { ...community, links: [...this.withRoom(community.links), link] },
    );
    return this.describe(id, link, seed);
  }

  /** Where there is no room for another link, those that have expired make it. */
  private withRoom(links: readonly InviteLink[]): readonly InviteLink[] {
    if (links.length < MAX_LINKS) return links;
    return links.filter((link) => !linkHasExpired(link, this.context.now()));
  }

  async revokeLink(id: GroupId, linkId: Bytes): Promise<void> {
    await this.change(id, (community) => {
      const links = community.links.filter((link) => !equalBytes(link.linkId, linkId));
      return links.length === community.links.length ? undefined : { ...community, links };
    });
    this.context.transaction(() => this.context.mls.deleteLink(id, linkId));
  }

  /** Every open link; the URL of those that this device made. */
  links(id: GroupId): readonly InviteLinkInfo[] {
    return this.registry
      .communityOf(id)
      .links.map((link) => this.describe(id, link, this.context.mls.linkSeed(id, link.linkId)));
  }

  private describe(
    id: GroupId,
    link: Omit<InviteLink, "publicKey">,
    seed: Bytes | undefined,
  ): InviteLinkInfo {
    const { linkId, maxUses, approval, expiresAtMs } = link;
    const described = { linkId: Buffer.from(linkId).toString("base64url"), maxUses, approval, expiresAtMs };
    if (seed === undefined) return { ...described, url: undefined };
    const fingerprint = fingerprintOf(this.context.engine.local()!.accountIdentityKey);
    const { title } = this.profileOf(id);
    const url = formatInviteLink(this.context.api.transport.origin, {
      groupId: this.names.wire(id),
      fingerprint,
      linkId,
      seed,
      title,
    });
    return { ...described, url };
  }
}

/** Who is banned is not expected any more, also not after the ban. */
function withoutExpected(community: CommunityContext, account: AccountId): CommunityContext {
  const expected = community.expected.filter(({ accountId }) => !equalBytes(accountId, account));
  return { ...community, expected };
}

/** Whether trying again is of no use. */
function isForGood(error: unknown): boolean {
  return error instanceof UsageError || (error instanceof RejectionError && !isTemporary(error));
}
