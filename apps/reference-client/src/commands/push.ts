import type { Client } from "@murmuration/client-core";
import { WrongUsage } from "../arguments.ts";
import { type Command, type CommandContext, catchUp, jsonOption, waitMs, waitOption } from "../command.ts";
import { findConversation } from "../lookup.ts";
import { json } from "../output.ts";
import { withClient } from "../profile.ts";

const KINDS = ["web-push", "apns", "fcm"] as const;
type Kind = (typeof KINDS)[number];

export const pushOn: Command = {
  path: ["push", "on"],
  summary: "Has this device woken through a push gateway while it is not connected.",
  operands: [{ name: "GATEWAY" }, { name: "ADDRESS" }],
  options: {
    kind: { value: "web-push|apns|fcm", help: "whose address it is (default: web-push)" },
    ...jsonOption,
    ...waitOption,
  },
  notes:
    "GATEWAY is the origin of the push gateway. ADDRESS is the endpoint of a Web Push subscription, or the token of an\n" +
    "application. With another ADDRESS, the device is woken there from now on. What the gateway or the service cannot be\n" +
    "told now, the next command that connects tells them.",
  run: (context) =>
    withClient(context, async (client) => {
      const [gateway, address] = context.operands as [string, string];
      const kind = context.options.text("kind") ?? "web-push";
      if (!KINDS.includes(kind as Kind))
        throw new WrongUsage(`--kind takes ${KINDS.join(", ")}, not "${kind}".`);
      await client.push.on({ gateway, address, kind: kind as Kind });
      await settle(client, context);
      return report(client, context);
    }),
};

export const pushOff: Command = {
  path: ["push", "off"],
  summary: "Nothing wakes this device any more.",
  operands: [],
  options: { ...jsonOption, ...waitOption },
  run: (context) =>
    withClient(context, async (client) => {
      await client.push.off();
      await settle(client, context);
      return report(client, context);
    }),
};

export const pushStatus: Command = {
  path: ["push", "status"],
  summary: "Shows whether and how this device is woken.",
  operands: [],
  options: jsonOption,
  run: (context) => withClient(context, async (client) => report(client, context)),
};

export const pushBy: Command = {
  path: ["push", "by"],
  summary: "Chooses what wakes this device for a community.",
  operands: [{ name: "CONVERSATION" }, { name: "messages|mentions|nothing" }],
  options: { ...jsonOption, ...waitOption },
  notes: "What comes to the device's mailbox, such as messages of a contact, wakes it whatever is chosen.",
  run: (context) =>
    withClient(context, async (client) => {
      const [name, wakeBy] = context.operands as [string, string];
      if (wakeBy !== "messages" && wakeBy !== "mentions" && wakeBy !== "nothing")
        throw new WrongUsage(`What wakes is messages, mentions or nothing, not "${wakeBy}".`);
      const conversation = findConversation(client, name);
      await conversation.setWakeBy(wakeBy);
      if (client.push.status.state === "on") await settle(client, context);
      const { id } = conversation;
      context.print(context.options.flag("json") ? json({ id, wakeBy }) : `woken by ${wakeBy}`);
      return 0;
    }),
};

/** Gives gateway and service their time; what they do not know by then they are told by the next command. */
async function settle(client: Client, context: CommandContext): Promise<void> {
  await catchUp(client, context);
  await client.push.settled(waitMs(context)).catch(() => undefined);
}

function report(client: Client, context: CommandContext): number {
  const { status } = client.push;
  if (context.options.flag("json")) context.print(json(status));
  else for (const line of describe(status)) context.print(line);
  return 0;
}

function describe(status: Client["push"]["status"]): readonly string[] {
  const waiting = status.waitingHandles === 0 ? [] : [`handles under way: ${status.waitingHandles}`];
  if (status.state === "off") return ["push is off", ...waiting];
  const how = `push is on: ${status.kind} through ${status.gateway}`;
  if (status.failure !== undefined) return [how, `the gateway refuses the address (${status.failure})`];
  return [how, ...(status.registered ? [] : ["the gateway has not been told yet"]), ...waiting];
}
