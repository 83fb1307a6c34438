/**
 * The moment in which a conversation goes on in MLS. Two things have to be here, in whichever order they come: the
 * switching commit, from the log of the MLS group, and the change of the record that names it. Everything runs inside
 * the transaction that brings the second of them.
 *
 *   commit  -> what it led to, with the roster, is PERSISTED
 *   change  -> the same epoch, authenticator and roster, and nobody in it who is not in the record
 *           -> protocol, members, what waits in the outbox, what was held back: one transaction
 */
import { type AccountId, type Bytes, equalBytes, formatId, type GroupId } from "@murmuration/base";
import {
  type CommunityContext,
  communityContextOf,
  decodeCommunityContext,
  encodeCommunityContext,
  type Group,
} from "@murmuration/mls-groups";
import { hasSwitched } from "@murmuration/wire";
import { byAccount } from "../../core/by-account.ts";
import { bodyKind, type Content, decodeContent, emptyContent, groupProfile } from "../../core/content.ts";
import { decideSwitch, type SwitchDecision } from "../../core/migration/decisions.ts";
import { migrationPskIdOf } from "../../core/migration/psk-id.ts";
import { planSaidAnew } from "../../core/migration/said-anew.ts";
import { isContextOfRecord } from "../../core/migration/switch-context.ts";
import type { Reached } from "../../store/migration.ts";
import type { OutboxRow } from "../../store/outbox.ts";
import type { Communities } from "../communities/communities.ts";
import { leavesOf } from "../communities/leaves.ts";
import { encodeProfile, hashOfProfile, knownProfile } from "../communities/profile.ts";
import type { Context } from "../context.ts";
import { lanes } from "../lanes.ts";
import { REST_MS_PER_MEMBER } from "./gentle.ts";
import { accountsOf, hashOfRoster, strangersAmong } from "./roster.ts";

/** What is said to a group and belongs to the protocol that it leaves: it has no reader any more. */
const PAIRWISE_ONLY: ReadonlySet<string | undefined> = new Set([
  "groupKey",
  "groupChange",
  "groupInvite",
  "migrationSecret",
  "typing",
]);

export class Switcher {
  private readonly context: Context;
  private readonly communities: Pick<Communities, "registry" | "carry">;
  /** Shows what was held back. */
  private readonly released: (id: GroupId) => void;

  constructor(
    context: Context,
    communities: Pick<Communities, "registry" | "carry">,
    released: (id: GroupId) => void,
  ) {
    this.context = context;
    this.communities = communities;
    this.released = released;
  }

  /** A commit was merged, `group` being in its epoch. O(members) for a switching commit, nothing for any other. */
  committed(
    id: GroupId,
    group: Group,
    proposals: readonly { readonly proposal: { readonly kind: string } }[],
  ): void {
    const named = proposals
      .map(({ proposal }) => proposal as Parameters<typeof pskOf>[0])
      .map(pskOf)
      .find((psk) => psk !== undefined);
    const { migration } = this.context;
    if (named === undefined || migration.own(id).switchedAtMs > 0) return;
    const leaves = leavesOf(group);
    // The switch comes when everybody has had time to take this commit.
    this.context.quieten(2 * REST_MS_PER_MEMBER * leaves.length);
    const rosterHash = hashOfRoster(leaves);
    const fits = equalBytes(named.rosterHash, rosterHash) && equalBytes(named.groupId, group.groupId);
    migration.setOwn(id, {
      refusal: fits ? "" : "migration/roster-mismatch",
      reached: {
        epoch: Number(group.epoch),
        authenticator: group.epochAuthenticator(),
        rosterHash,
        roster: accountsOf(leaves),
        context: encodeCommunityContext(communityContextOf(group.context.extensions)),
      },
    });
    this.switchIfReached(id);
  }

  /**
   * Inside the transaction: the newest commit was taken back, and the group goes on from this epoch. What that commit led to
   * is no more: another one that comes to the same epoch is not the one that was seen. Whoever has gone over by it does not go
   * back, to where the group is only prepared and nobody hears anything: an owner or admin begins anew.
   */
  takenBack(id: GroupId, epoch: number): void {
    const { migration } = this.context;
    const { reached, switchedAtMs } = migration.own(id);
    if (switchedAtMs > 0) {
      const { switchPoint } = migration.record(id);
      if (switchPoint !== undefined && switchPoint.epoch > epoch)
        migration.setOwn(id, { refusal: "migration/other-epoch" });
    } else if (reached !== undefined && reached.epoch > epoch) {
      migration.setOwn(id, { reached: undefined, refusal: "" });
    }
  }

  /**
   * Switches if everything is here. True when the conversation has just gone over. Nothing is said in MLS before, whatever
   * the service answers.
   */
  switchIfReached(id: GroupId): boolean {
    const { decision, group, stranger } = this.decide(id);
    if (decision.kind === "refuse") this.refuse(id, decision.code, stranger);
    if (decision.kind !== "switch" || group === undefined) return false;
    this.go(id, group);
    return true;
  }

  /** What holds of this switch now. O(members). */
  decide(id: GroupId): {
    readonly decision: SwitchDecision;
    readonly group?: Group | undefined;
    readonly stranger?: AccountId | undefined;
  } {
    const { context } = this;
    const { state, switchPoint } = context.migration.record(id);
    const { reached, enteredEpoch, switchedAtMs, refusal } = context.migration.own(id);
    if (!hasSwitched(state) || switchedAtMs > 0) return { decision: { kind: "wait" } };
    const isIn = context.mls.group(id)?.state === "active";
    const group = isIn ? this.communities.registry.load(id).group : undefined;
    const strangers = this.strangers(id, reached, group);
    const decision = decideSwitch({
      state,
      switchPoint,
      reached,
      isMisnamed: refusal !== "",
      hasStrangers: strangers.length > 0 || (reached !== undefined && !this.isContextOfRecord(id, reached)),
      epoch: group && Number(group.epoch),
      enteredEpoch,
      hasSwitched: switchedAtMs > 0,
    });
    return { decision, group, stranger: strangers[0] };
  }

  /**
   * Whether this device may come in from outside to the group that it sees. One that it refuses it does not enter, or the
   * next one would not come in right behind the switch any more, and could not tell whom its creator put there.
   */
  admits(id: GroupId, group: Group): boolean {
    const { context } = this;
    const { state } = context.migration.record(id);
    if (!hasSwitched(state) || context.migration.own(id).switchedAtMs > 0) return true;
    const [stranger] = this.strangers(id, undefined, group);
    // Behind the switch there is no group that is prepared, unless that was taken back. Where one recovers the next is.
    const { preparing } = communityContextOf(group.context.extensions);
    const isTakenBack = preparing && state !== "recovering";
    const isRefused = stranger !== undefined || isTakenBack || this.isOtherRoster(id);
    if (isRefused) {
      const [present] = strangersAmong(accountsOf(leavesOf(group)), context.conversations.members(id));
      context.transaction(() => this.refuse(id, "migration/roster-mismatch", stranger ?? present));
      context.notifier.flush();
    }
    return !isRefused;
  }

  /**
   * Of a device that had a leaf until the switching commit, and could not take that: whether the roster that the record
   * names is any other than the leaves of members that it saw then. Others may have come since; nobody came with the switch.
   */
  private isOtherRoster(id: GroupId): boolean {
    const { conversations, migration, mls } = this.context;
    const { switchPoint } = migration.record(id);
    if (switchPoint === undefined || mls.group(id)?.state !== "stuck" || !mls.hasRows(id)) return false;
    const { group } = this.communities.registry.load(id);
    if (Number(group.epoch) !== switchPoint.epoch - 1) return false;
    const members = byAccount(conversations.members(id));
    const staying = leavesOf(group).filter(({ account, identityKey }) => {
      const member = members.get(formatId(account));
      return member !== undefined && !member.invited && equalBytes(member.identityKey, identityKey);
    });
    return !equalBytes(hashOfRoster(staying), switchPoint.rosterHash);
  }

  /** A switching commit brings nobody along: whoever lacks its key can at least see that. */
  refuseNewcomers(id: GroupId): void {
    const { context } = this;
    if (context.migration.own(id).switchedAtMs > 0) return;
    context.transaction(() => this.refuse(id, "migration/roster-mismatch", undefined));
    context.notifier.flush();
  }

  /**
   * Who must not be in the group. Whoever comes in right behind the switch sees whom its creator put there, as whoever has
   * taken the commit does. Later others may have been added: they are shown ({@link go}), but nobody of the record stands
   * there under another key.
   */
  private strangers(
    id: GroupId,
    reached: Reached | undefined,
    group: Group | undefined,
  ): readonly AccountId[] {
    const { conversations, migration } = this.context;
    const members = conversations.members(id);
    if (reached !== undefined) return strangersAmong(reached.roster, members);
    const { switchPoint } = migration.record(id);
    if (group === undefined || switchPoint === undefined) return [];
    // Behind the switch come those whom the group expects: this account, and whoever was only invited before.
    const expected = members.map((member) => ({ ...member, invited: false }));
    const present = accountsOf(leavesOf(group));
    if (Number(group.epoch) === switchPoint.epoch + 1) return strangersAmong(present, expected);
    return present
      .filter(({ account, identityKey }) => {
        const member = members.find((one) => equalBytes(one.account, account));
        return member !== undefined && !equalBytes(member.identityKey, identityKey);
      })
      .map(({ account }) => account);
  }

  private isContextOfRecord(id: GroupId, { context: encoded, roster }: Reached): boolean {
    const { conversations, migration } = this.context;
    return isContextOfRecord(decodeCommunityContext(encoded), {
      generation: migration.record(id).generation,
      members: conversations.members(id),
      inside: roster.map(({ account }) => account),
    });
  }

  /** A person has to know, and an owner or admin begins anew. Said once for each generation. */
  private refuse(id: GroupId, code: string, account: AccountId | undefined): void {
    const { context } = this;
    context.migration.setOwn(id, { refusal: code });
    context.events.append({
      kind: "decision-needed",
      conversation: id,
      ...(account === undefined ? {} : { account }),
      detail: "migration/roster-mismatch",
      atMs: context.now(),
    });
  }

  private go(id: GroupId, group: Group): void {
    const { context } = this;
    const { conversations, events, migration } = context;
    const atMs = context.now();
    const before = conversations.members(id);
    const { reached } = migration.own(id);
    const community = communityContextOf(group.context.extensions);
    conversations.setProtocol(id, "mls");
    // The token of a lease stays: a service that is set back behind the switch asks for it again.
    migration.setOwn(id, { switchedAtMs: atMs, refusal: "" });
    // All the others move as well now.
    context.quieten(REST_MS_PER_MEMBER * before.length);
    const isInEpoch = reached?.epoch === Number(group.epoch);
    const hasGrown = this.communities.carry(id, isInEpoch ? reached.roster : undefined);
    // What they had said before is still taken; they come into the group by themselves.
    // Whoever comes later finds what has been changed since, and nothing else is changed by the switch.
    let isChanged = !isInEpoch || hasGrown;
    const present = byAccount(conversations.members(id));
    for (const { account, identityKey, invited } of before) {
      if (present.has(formatId(account))) continue;
      conversations.putMember(id, { account, identityKey, role: "member", invited });
      conversations.removeMember(id, account, atMs);
      isChanged = true;
    }
    isChanged = this.learnProfile(id, community) || isChanged;
    // An account that was only invited comes in by accepting.
    if (conversations.get(id)?.state === "invited") {
      conversations.setState(id, "active");
      isChanged = true;
    }
    this.sayAnew(id);
    this.forgetSecrets(id);
    context.eraseWhenQuiet();
    events.append({ kind: "protocol-changed", conversation: id, atMs });
    if (isChanged) events.append({ kind: "conversation-changed", conversation: id, atMs });
    this.released(id);
  }

  /**
   * What was sent stays in the outbox for a while, for those who ask for it again; a thief of this device would find the
   * secret there. What waits for a mailbox that is full goes when it has gone (OutboxWorker).
   */
  private forgetSecrets(id: GroupId): void {
    const { context } = this;
    for (const secret of context.migration.secrets(id)) {
      context.outbox.blank(secret, emptyContent(context.newMessageId()));
      secret.fill(0);
    }
    context.migration.deleteSecrets(id);
  }

  /**
   * The title that the record had is the profile of the group: nobody has to be asked for it. Whoever came by a Welcome behind
   * the switch may have been told another one since. Whether the title is another one now.
   */
  private learnProfile(id: GroupId, community: CommunityContext): boolean {
    const { conversations, mls } = this.context;
    const { profileHash } = community;
    const profile = encodeProfile({ title: conversations.get(id)?.title ?? "", description: "" });
    if (equalBytes(hashOfProfile(profile), profileHash)) {
      mls.setProfile(id, profile, this.context.now());
      return false;
    }
    const known = knownProfile(this.context, id, community);
    if (known === undefined) return false;
    conversations.setTitle(id, groupProfile.decode(known).title);
    return true;
  }

  /**
   * What waits in the outbox goes over MLS under its message id. What some have and others have not got, because their
   * mailboxes were full, is said to all: whoever has it knows it by its id. It still goes the old way too: their Welcome
   * may have found no room either, and who comes in from outside reads nothing of what was said before. O(what waits).
   */
  private sayAnew(id: GroupId): void {
    const { migration, outbox } = this.context;
    const waiting = outbox.waitingRows(lanes.group(id)).map((row) => {
      const content = decodeContent(row.content);
      const isPairwiseOnly = PAIRWISE_ONLY.has(bodyKind(content));
      return { id: row.id, isPairwiseOnly, counter: content.group?.counter };
    });
    const { drop, sayAnew, takeBackFrom } = planSaidAnew(waiting, {
      last: migration.lastSent(id)?.counter ?? 0,
      unsaid: migration.unsaid(id),
    });
    migration.deleteUnsaid(id);
    for (const row of waiting) for (const part of outbox.parts(row.id)) outbox.deletePart(part.id);
    for (const row of drop) outbox.delete(row.id);
    for (const row of sayAnew) outbox.beginAnew(row.id);
    // Nobody waits for what comes by MLS itself.
    if (takeBackFrom !== undefined) migration.takeBackFrom(id, takeBackFrom);
    const again = new Map<string, OutboxRow>();
    for (const row of outbox.waitingForMembers()) {
      const content = decodeContent(row.content);
      if (!isOfGroup(content, id) || PAIRWISE_ONLY.has(bodyKind(content))) continue;
      if (row.target.kind !== "account") continue;
      // Whoever is left behind has no other way to it.
      if (this.context.mls.leavesOf(id, row.target.account).length === 0) continue;
      again.set(Buffer.from(row.messageId).toString("hex"), row);
    }
    for (const { messageId, content, createdAtMs } of again.values()) {
      outbox.append({
        lane: lanes.group(id),
        target: { kind: "group", group: id },
        messageId,
        content,
        confirm: false,
        createdAtMs,
      });
    }
  }
}

const isOfGroup = ({ group }: Content, id: Bytes): boolean =>
  group !== undefined && equalBytes(group.groupId, id);

function pskOf(proposal: {
  readonly kind: string;
  readonly psk?: Parameters<typeof migrationPskIdOf>[0];
}): ReturnType<typeof migrationPskIdOf> {
  return proposal.kind === "psk" && proposal.psk !== undefined ? migrationPskIdOf(proposal.psk) : undefined;
}
