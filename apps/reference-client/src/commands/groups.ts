import type { Client, Conversation } from "@murmuration/client-core";
import type { OperandSpec, OptionSpec } from "../arguments.ts";
import { type Command, type CommandContext, catchUp, jsonOption, settle, waitOption } from "../command.ts";
import { allMembers, findAccount, findGroup, findMember, groupsOf } from "../lookup.ts";
import { json, printable } from "../output.ts";
import { withClient } from "../profile.ts";
import { followMove, showProgress } from "./migration.ts";

/** A command that changes a group: it first receives what is new, and ends when the change is accepted. */
export function changing(
  word: string,
  summary: string,
  operands: readonly OperandSpec[],
  change: (client: Client, context: CommandContext) => Promise<Conversation>,
  options: Readonly<Record<string, OptionSpec>> = {},
): Command {
  return {
    path: ["group", word],
    summary,
    operands,
    options: { ...options, ...jsonOption, ...waitOption },
    async run(context) {
      return withClient(context, async (client) => {
        await catchUp(client, context);
        const group = await change(client, context);
        await settle(client, context);
        if (context.options.flag("json")) context.print(json(summaryOf(group)));
        else context.print(groupLine(group));
        return 0;
      });
    },
  };
}

export function summaryOf(group: Conversation): object {
  const { id, title, state, protocol, memberCount, expireAfterSeconds } = group;
  return { id, title, state, protocol, memberCount, expireAfterSeconds };
}

export function groupLine(group: Conversation): string {
  const { id, title, state, protocol, memberCount } = group;
  return `${id}  ${printable(title)}  ${memberCount} members  ${protocol}${state === "active" ? "" : `  ${state}`}`;
}

const accounts = (client: Client, names: readonly string[]): string[] =>
  names.map((name) => findAccount(client, name));

export const createGroup = changing(
  "create",
  "Creates a group.",
  [{ name: "TITLE" }, { name: "CONTACT", optional: true, many: true }],
  async (client, { operands, options, terminal }) => {
    const expireAfterSeconds = options.integer("expire-after") ?? 0;
    const [title, ...members] = operands;
    const group = await client.conversations.createGroup({
      title: title!,
      members: accounts(client, members),
      expireAfterSeconds,
      ...(options.flag("community") ? { protocol: "mls" as const } : {}),
    });
    tellLeftOut(group.leftOut, terminal.errors);
    return group;
  },
  {
    community: { help: "a community over MLS from the start, whatever its size" },
    "expire-after": {
      value: "SECONDS",
      help: "messages vanish this long after they were read",
      between: [0, 366 * 86_400],
    },
  },
);

export const addToGroup = changing(
  "add",
  "Adds contacts to a group.",
  [{ name: "GROUP" }, { name: "CONTACT", many: true }],
  async (client, context) => {
    const [name, ...members] = context.operands;
    const { errors } = context.terminal;
    const group = findGroup(client, name!);
    const asked = accounts(client, members);
    const stopShowing = showProgress(client, group, context);
    const left = await group.add(asked).finally(stopShowing);
    tellLeftOut(left, errors);
    if ((group.migration?.waitingMembers ?? 0) > 0) await addByMoving(client, group, context, asked);
    return group;
  },
);

function tellLeftOut(left: Conversation["leftOut"], errors: CommandContext["terminal"]["errors"]): void {
  for (const { accountId, code } of left) errors.write(`not added: ${accountId} (${code})\n`);
}

/** The group has no room while it is pairwise: they come as soon as it has moved, whoever waits for it. */
async function addByMoving(
  client: Client,
  group: Conversation,
  context: CommandContext,
  asked: readonly string[],
): Promise<void> {
  const { errors } = context.terminal;
  errors.write(
    `The group has no room for more while it is pairwise: it moves to MLS, and ${asked.length} wait to be added then.\n` +
      "That goes on by itself whenever this device is connected; see group migration.\n",
  );
  const isOpen = (account: string): boolean => {
    if (group.leftOut.some(({ accountId }) => accountId === account)) return false;
    return ![...allMembers(group)].some(({ accountId }) => accountId === account);
  };
  await followMove(client, group, context, () => group.protocol === "mls" && !asked.some(isOpen));
  tellLeftOut(group.leftOut, errors);
  const open = asked.filter(isOpen).length;
  errors.write(open === 0 ? "The group has moved to MLS.\n" : `${open} still wait.\n`);
}

export const removeFromGroup = changing(
  "remove",
  "Removes a member, who never learns the keys that the group goes on with.",
  [{ name: "GROUP" }, { name: "CONTACT" }],
  async (client, { operands: [name, member] }) => {
    const group = findGroup(client, name!);
    await group.remove(findMember(client, group, member!));
    return group;
  },
);

export const leaveGroup = changing(
  "leave",
  "Leaves a group; its history stays here.",
  [{ name: "GROUP" }],
  async (client, { operands: [name] }) => {
    const group = findGroup(client, name!);
    await group.leave();
    return group;
  },
);

export const listGroups: Command = {
  path: ["group", "list"],
  summary: "Lists groups.",
  operands: [],
  options: { ...jsonOption },
  run: (context) =>
    withClient(context, async (client) => {
      const groups = groupsOf(client);
      if (context.options.flag("json")) context.print(json(groups.map(summaryOf)));
      else for (const group of groups) context.print(groupLine(group));
      return 0;
    }),
};

export const listMembers: Command = {
  path: ["group", "members"],
  summary: "Lists the members of a group.",
  operands: [{ name: "GROUP" }],
  options: { search: { value: "TEXT", help: "only those whose name has this in it" }, ...jsonOption },
  run: (context) =>
    withClient(context, async (client) => {
      const group = findGroup(client, context.operands[0]!);
      const members = [...allMembers(group, context.options.text("search"))];
      if (context.options.flag("json")) context.print(json(members));
      for (const { accountId, role, name, invited } of context.options.flag("json") ? [] : members) {
        context.print(
          `${accountId}  ${role.padEnd(6)}  ${printable(name)}${invited ? "  invited" : ""}`.trimEnd(),
        );
      }
      return 0;
    }),
};
