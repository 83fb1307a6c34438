import {
  type AccountId,
  type Bytes,
  type GroupId,
  groupId,
  RejectionError,
  toBase64Url,
  UnavailableError,
  UsageError,
} from "@murmuration/base";
import type { AccountRef, Conversation, ConversationRef, Conversations } from "../api.ts";
import { MAX_EXPIRY_SECONDS, MAX_TITLE_BYTES, shorten } from "../core/content.ts";
import type { NewMember } from "../core/group-change.ts";
import { MAX_PAIRWISE_MEMBERS } from "../core/group-record.ts";
import { parseInviteLink } from "../core/invite-link.ts";
import { decideProtocol } from "../core/routing.ts";
import type { Context } from "../shell/context.ts";
import type { Directory } from "../shell/directory.ts";
import { requireIdOfAccount } from "../shell/founded-ids.ts";
import { ClientConversation } from "./conversation.ts";
import type { ClientParts } from "./parts.ts";
import { callersAccount } from "./view.ts";

/** How long a caller waits for an admin. */
const APPROVAL_TIMEOUT_MS = 60_000;

export class ClientConversations implements Conversations {
  private readonly context: Context;
  private readonly parts: ClientParts;

  constructor(parts: ClientParts) {
    this.context = parts.context;
    this.parts = parts;
  }

  private handle(id: Bytes): Conversation | undefined {
    const row = this.context.conversations.get(id);
    return row === undefined ? undefined : new ClientConversation(this.parts, row);
  }

  direct(accountId: AccountRef): Conversation {
    const { context, receiver } = this.parts;
    const id = callersAccount(accountId);
    if (context.isOwn(id)) throw new UsageError("conversation/own-account");
    requireIdOfAccount(context, id);
    if (context.conversations.get(id) === undefined) {
      context.transaction(() => {
        if (context.contacts.get(id)?.blocked !== true) {
          context.contacts.setFlags(id, { known: true, accepted: true });
        }
        receiver.openDirect(id);
      });
      context.notifier.flush();
    }
    return this.handle(id)!;
  }

  get(id: ConversationRef): Conversation | undefined {
    // Groups and accounts have ids of one form.
    return this.handle(callersAccount(id));
  }

  describeLink(url: string): { readonly conversationId: ConversationRef; readonly title: string } {
    const { groupId: wireId, title } = parseInviteLink(url);
    return { conversationId: toBase64Url(this.context.mls.conversationOf(wireId)), title };
  }

  async join(url: string, options: { readonly timeoutMs?: number } = {}): Promise<Conversation> {
    const link = parseInviteLink(url);
    const { communities } = this.parts;
    return this.handle(await communities.joinByLink(link, options.timeoutMs ?? APPROVAL_TIMEOUT_MS))!;
  }

  list(): readonly Conversation[] {
    return this.context.conversations.list().map((row) => new ClientConversation(this.parts, row));
  }

  async createGroup(options: {
    readonly title: string;
    readonly members: readonly AccountRef[];
    readonly expireAfterSeconds?: number;
    readonly protocol?: "mls";
  }): Promise<Conversation> {
    const { context, groups } = this.parts;
    const expireAfterSeconds = options.expireAfterSeconds ?? 0;
    if (!(expireAfterSeconds >= 0 && expireAfterSeconds <= MAX_EXPIRY_SECONDS)) {
      throw new UsageError("conversation/bad-expiry");
    }
    const accounts = options.members.map(callersAccount);
    const id: GroupId = groupId(context.environment.random(16));
    const title = shorten(options.title, MAX_TITLE_BYTES);
    const protocol = options.protocol ?? this.protocolFor(accounts.length + 1);
    if (protocol === "mls") {
      await this.parts.communities.create(id, { title, description: "" }, expireAfterSeconds, accounts);
      return this.handle(id)!;
    }
    const members = [this.self(), ...(await this.parts.newMembers(accounts))];
    const row = { id, kind: "group", state: "active", protocol, title, expireAfterSeconds } as const;
    context.transaction(() => context.conversations.insert(row, context.now()));
    await groups.change(id, (state) =>
      state.revision > 0 ? undefined : { kind: "create", title, expireAfterSeconds, members },
    );
    return this.handle(id)!;
  }

  private protocolFor(projectedMembers: number): "pairwise" | "mls" {
    const { mlsThreshold } = this.context.settings;
    const protocol = decideProtocol({ protocol: "pairwise", projectedMembers, mlsThreshold });
    if (protocol === "pairwise" && projectedMembers > MAX_PAIRWISE_MEMBERS) {
      throw new UsageError("group/too-many-members");
    }
    return protocol;
  }

  private self(): NewMember {
    const { engine, meta, own } = this.context;
    return {
      account: own.accountId,
      identityKey: engine.local()!.accountIdentityKey,
      profileKey: meta.require("profile-key"),
      name: meta.text("name"),
    };
  }
}

/** What a group record says of accounts. Unknown ones are refused; those without a card are invited. */
export async function describeMembers(
  context: Context,
  directory: Directory,
  accounts: readonly AccountId[],
): Promise<readonly NewMember[]> {
  const failed = await directory.ensureAccounts(accounts);
  for (const why of failed.values()) {
    if (why.kind === "later") throw new UnavailableError("group/member-not-reachable");
    throw new RejectionError(why.kind === "refused" ? why.code : "accounts/unknown");
  }
  return accounts.map((account) => {
    const contact = context.contacts.get(account);
    return {
      account,
      identityKey: context.engine.identityOf(account)!.accountIdentityKey,
      profileKey: contact?.profileKey,
      name: contact?.name ?? "",
    };
  });
}
