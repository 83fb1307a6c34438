/** What only communities have: roles, bans, links, settings. */
import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import type {
  Client,
  CommunitySettings,
  Conversation,
  HistoryLine,
  InviteLinkInfo,
  Role,
} from "@murmuration/client-core";
import { WrongUsage } from "../arguments.ts";
import {
  type Command,
  type CommandContext,
  catchUp,
  jsonOption,
  settle,
  waitMs,
  waitOption,
} from "../command.ts";
import { parseDuration } from "../duration.ts";
import { CommandFailed } from "../failures.ts";
import { findGroup, findMember } from "../lookup.ts";
import { formatLine, json, printable } from "../output.ts";
import { withClient } from "../profile.ts";
import { changing, groupLine, summaryOf } from "./groups.ts";

const ROLES = ["owner", "admin", "member"] as const;
const WORDS_OF_ROLE = { oneOf: ROLES } as const;

export const setRole = changing(
  "role",
  "Makes a member owner, admin or plain member.",
  [{ name: "GROUP" }, { name: "MEMBER" }, { name: "ROLE" }],
  async (client, { operands: [name, member, role] }) => {
    if (!ROLES.includes(role as Role)) throw new WrongUsage(`ROLE is one of ${ROLES.join(", ")}.`);
    const group = findGroup(client, name!);
    await group.setRole(findMember(client, group, member!), role as Role);
    return group;
  },
);

export const banFromGroup = changing(
  "ban",
  "Removes an account from a community and keeps it out.",
  [{ name: "GROUP" }, { name: "MEMBER" }],
  async (client, { operands: [name, member], options }) => {
    const group = findGroup(client, name!);
    const account = findMember(client, group, member!);
    if (options.flag("lift")) await group.community.unban(account);
    else await group.community.ban(account);
    return group;
  },
  { lift: { help: "lift the ban" } },
);

export const healGroup = changing(
  "heal",
  "Enters a community anew with fresh keys, for a device that lost its way.",
  [{ name: "GROUP" }],
  async (client, { operands: [name] }) => {
    const group = findGroup(client, name!);
    await group.community.heal();
    return group;
  },
);

export const shareHistory = changing(
  "share-history",
  "Shares the last messages of a community with those who came later.",
  [{ name: "GROUP" }],
  async (client, { operands: [name], options }) => {
    const group = findGroup(client, name!);
    await group.community.shareHistory(options.integer("count"));
    return group;
  },
  { count: { value: "N", help: "how many messages (default: 100)", between: [1, 100] } },
);

export const pins: Command = {
  path: ["group", "pins"],
  summary: "Shows the pinned messages of a community, or changes them.",
  operands: [{ name: "GROUP" }],
  options: {
    pin: { value: "LINE", help: "pin the message of this line", between: [1, Number.MAX_SAFE_INTEGER] },
    unpin: { value: "LINE", help: "unpin it", between: [1, Number.MAX_SAFE_INTEGER] },
    ...jsonOption,
    ...waitOption,
  },
  notes: "LINE is the `historyId` that `history --json` shows; it is this device's own number.",
  run: (context) =>
    withClient(context, async (client) => {
      const { options } = context;
      const group = findGroup(client, context.operands[0]!);
      const [pin, unpin] = [options.integer("pin"), options.integer("unpin")];
      if (pin !== undefined || unpin !== undefined) await catchUp(client, context);
      if (pin !== undefined) await group.pin(lineOf(group, pin));
      if (unpin !== undefined) await group.unpin(lineOf(group, unpin));
      if (pin !== undefined || unpin !== undefined) await settle(client, context);
      for (const line of group.pins())
        context.print(options.flag("json") ? json(line) : `${line.historyId}  ${formatLine(client, line)}`);
      return 0;
    }),
};

function lineOf(group: Conversation, historyId: number): HistoryLine {
  const [line] = group.history({ after: historyId - 1, limit: 1 });
  if (line?.historyId !== historyId) throw new CommandFailed(`This group has no line ${historyId}.`);
  return line;
}

export const groupSettings: Command = {
  path: ["group", "settings"],
  summary: "Shows the settings of a community, or changes those that are named.",
  operands: [{ name: "GROUP" }],
  options: {
    title: { value: "TITLE", help: "what the group is called" },
    description: { value: "TEXT", help: "what the group is for" },
    picture: { value: "FILE|none", help: "the group's picture, at most 1 MiB" },
    "add-by": { value: "ROLE", help: "the least role that may add members", ...WORDS_OF_ROLE },
    "profile-by": {
      value: "ROLE",
      help: "the least role that may change title and description",
      ...WORDS_OF_ROLE,
    },
    announcements: { value: "on|off", help: "only admins and owners write", oneOf: ["on", "off"] },
    "slow-mode": { value: "SECONDS", help: "pause between two messages of a member", between: [0, 86_400] },
    "joins-per-minute": {
      value: "N",
      help: "how many may join by link (0: any number)",
      between: [0, 86_400],
    },
    "expire-after": {
      value: "SECONDS",
      help: "messages vanish this long after they were read (0: they stay)",
      between: [0, 28 * 86_400],
    },
    ...jsonOption,
    ...waitOption,
  },
  run: (context) =>
    withClient(context, async (client) => {
      const group = findGroup(client, context.operands[0]!);
      await change(client, group, context);
      show(group, context);
      return 0;
    }),
};

async function change(client: Client, group: Conversation, context: CommandContext): Promise<void> {
  const { options } = context;
  const settings: { -readonly [K in keyof CommunitySettings]?: CommunitySettings[K] } = {};
  const [addBy, profileBy] = [options.text("add-by"), options.text("profile-by")];
  if (addBy !== undefined) settings.addBy = addBy as Role;
  if (profileBy !== undefined) settings.profileBy = profileBy as Role;
  if (options.text("announcements") !== undefined)
    settings.announcementOnly = options.text("announcements") === "on";
  const [slow, joins] = [options.integer("slow-mode"), options.integer("joins-per-minute")];
  if (slow !== undefined) settings.slowModeSeconds = slow;
  if (joins !== undefined) settings.joinsPerMinute = joins;
  const [title, description] = [options.text("title"), options.text("description")];
  const expiry = options.integer("expire-after");
  const picture = options.text("picture");
  const nothing = [title, description, expiry, picture].every((value) => value === undefined);
  if (nothing && Object.keys(settings).length === 0) return;
  await catchUp(client, context);
  if (Object.keys(settings).length > 0) await group.community.setSettings(settings);
  if (title !== undefined) await group.setTitle(title);
  if (description !== undefined) await group.community.setDescription(description);
  if (picture !== undefined) await setPicture(client, group, picture);
  if (expiry !== undefined) await group.setExpiry(expiry);
}

async function setPicture(client: Client, group: Conversation, file: string): Promise<void> {
  if (file === "none") {
    await group.community.setPicture(undefined);
    return;
  }
  const bytes = await readFile(file).catch((error: NodeJS.ErrnoException) => {
    throw new CommandFailed(`The picture cannot be read (${error.code ?? "unknown"}).`);
  });
  await group.community.setPicture(await client.attachments.upload({ bytes, fileName: basename(file) }));
}

function show(group: Conversation, context: CommandContext): void {
  const { title, expireAfterSeconds } = group;
  const { description, picture } = group.community;
  const all = {
    title,
    description,
    picture: picture?.fileName ?? "",
    ...group.community.settings(),
    expireAfterSeconds,
  };
  if (context.options.flag("json")) context.print(json(all));
  else
    for (const [key, value] of Object.entries(all))
      context.print(`${key.padEnd(18)}  ${printable(String(value))}`);
}

export const groupLink: Command = {
  path: ["group", "link"],
  summary: "Shows the invite links of a community, makes one, or revokes one.",
  operands: [{ name: "GROUP" }],
  options: {
    create: { help: "make a link; whoever has it can join" },
    approval: { help: "with --create: you approve each who comes (see group requests)" },
    "max-uses": {
      value: "N",
      help: "how many devices may join by it (default: any number)",
      between: [0, 100_000],
    },
    expires: {
      value: "7d",
      help: "with --create: how long it lets people in: minutes (30m), hours or days (default: until revoked)",
    },
    revoke: { value: "ID", help: "revoke the link with this id" },
    ...jsonOption,
    ...waitOption,
  },
  run: (context) =>
    withClient(context, async (client) => {
      const { options } = context;
      const group = findGroup(client, context.operands[0]!);
      const revoked = options.text("revoke");
      if (options.flag("approval") && !options.flag("create"))
        throw new WrongUsage("--approval goes with --create.");
      const expiresInSeconds = secondsUntilExpiry(options.text("expires"));
      if (expiresInSeconds !== undefined && !options.flag("create"))
        throw new WrongUsage("--expires goes with --create.");
      if (options.flag("create") && revoked !== undefined)
        throw new WrongUsage("Either --create or --revoke, not both.");
      if (options.flag("create") || revoked !== undefined) await catchUp(client, context);
      if (revoked !== undefined) await group.community.revokeLink(revoked);
      const links = options.flag("create")
        ? [
            await group.community.createLink({
              maxUses: options.integer("max-uses") ?? 0,
              approval: options.flag("approval"),
              expiresInSeconds,
            }),
          ]
        : group.community.links();
      if (options.flag("json")) context.print(json(links));
      else for (const link of links) context.print(linkLine(link));
      return 0;
    }),
};

function secondsUntilExpiry(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const durationMs = parseDuration(text);
  if (durationMs === undefined)
    throw new WrongUsage(`--expires takes a time like 30m, 8h or 7d, not "${text}".`);
  return durationMs / 1000;
}

function linkLine({ approval, expiresAtMs, linkId, maxUses, url }: InviteLinkInfo): string {
  const uses = maxUses === 0 ? "any number of uses" : `${maxUses} uses`;
  const words = [linkId, uses];
  if (approval) words.push("with approval");
  if (expiresAtMs !== 0)
    words.push(`${expiresAtMs > Date.now() ? "expires" : "expired"} ${new Date(expiresAtMs).toISOString()}`);
  return [...words, url ?? "(made on another device)"].join("  ");
}

export const joinRequests: Command = {
  path: ["group", "requests"],
  summary: "Shows who asks to join by a link of yours, and lets them in or not.",
  operands: [{ name: "GROUP" }],
  options: {
    approve: { value: "CONTACT", help: "let this one in (id, or a name that only one of them has)" },
    refuse: { value: "CONTACT", help: "refuse this one" },
    ...jsonOption,
    ...waitOption,
  },
  run: (context) =>
    withClient(context, async (client) => {
      const { options } = context;
      const group = findGroup(client, context.operands[0]!);
      const [approved, refused] = [options.text("approve"), options.text("refuse")];
      if (approved !== undefined && refused !== undefined)
        throw new WrongUsage("Either --approve or --refuse, not both.");
      await catchUp(client, context);
      if (approved !== undefined) await group.community.approveJoin(findRequest(group, approved));
      if (refused !== undefined) await group.community.refuseJoin(findRequest(group, refused));
      await settle(client, context);
      const requests = group.community.joinRequests();
      if (options.flag("json")) for (const request of requests) context.print(json(request));
      else
        for (const { accountId, name, requestedAtMs } of requests)
          context.print(`${accountId}  ${new Date(requestedAtMs).toISOString()}  ${printable(name)}`);
      return 0;
    }),
};

/** Names are what people call themselves: where two have one, only the id says who is meant. */
function findRequest(group: Conversation, text: string): string {
  const requests = group.community.joinRequests();
  if (requests.some(({ accountId }) => accountId === text)) return text;
  const named = requests.filter(({ name }) => name === text);
  if (named.length > 1) throw new CommandFailed(`More than one named "${text}" asks: use the id.`);
  if (named[0] === undefined) throw new CommandFailed(`Nobody called "${text}" asks to join.`);
  return named[0].accountId;
}

export const joinByLink: Command = {
  path: ["join"],
  summary: "Joins a community by an invite link.",
  operands: [{ name: "LINK" }],
  options: { ...jsonOption, ...waitOption },
  notes:
    "Where the link asks for approval and nobody approves in time, the exit code is 3. The request stays: the next\n" +
    "command that connects after the approval joins.",
  run: (context) =>
    withClient(context, async (client) => {
      await catchUp(client, context);
      const group = await client.conversations.join(context.operands[0]!, { timeoutMs: waitMs(context) });
      await settle(client, context);
      if (context.options.flag("json")) context.print(json(summaryOf(group)));
      else context.print(groupLine(group));
      return 0;
    }),
};
