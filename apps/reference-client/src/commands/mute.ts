import type { Conversation } from "@murmuration/client-core";
import { WrongUsage } from "../arguments.ts";
import { type Command, jsonOption } from "../command.ts";
import { parseDuration } from "../duration.ts";
import { findConversation } from "../lookup.ts";
import { json } from "../output.ts";
import { withClient } from "../profile.ts";

const FOREVER = Number.MAX_SAFE_INTEGER;

export const mute: Command = {
  path: ["mute"],
  summary: "Mutes a conversation on all own devices, or lifts that.",
  operands: [{ name: "CONVERSATION" }],
  options: {
    until: { value: "8h|forever|off", help: "how long: minutes (30m), hours or days (default: forever)" },
    ...jsonOption,
  },
  notes: "A muted conversation receives as ever: who draws your attention to it asks whether it is muted.",
  run: (context) =>
    withClient(context, async (client) => {
      const untilMs = parseUntil(context.options.text("until") ?? "forever", Date.now());
      const conversation = findConversation(client, context.operands[0]!);
      await conversation.setMuted(untilMs);
      const { id, mutedUntilMs } = conversation;
      if (context.options.flag("json")) context.print(json({ id, mutedUntilMs: mutedUntilMs ?? null }));
      else context.print(describe(conversation));
      return 0;
    }),
};

/** Undefined for `off`. Throws WrongUsage. */
export function parseUntil(text: string, nowMs: number): number | undefined {
  if (text === "off") return undefined;
  if (text === "forever") return FOREVER;
  const durationMs = parseDuration(text);
  if (durationMs === undefined)
    throw new WrongUsage(`--until takes a time like 30m, 8h or 7d, or forever, or off, not "${text}".`);
  return nowMs + durationMs;
}

function describe({ mutedUntilMs }: Conversation): string {
  if (mutedUntilMs === undefined) return "not muted";
  return mutedUntilMs === FOREVER ? "muted" : `muted until ${new Date(mutedUntilMs).toISOString()}`;
}
