/** How far a group is on its way from pairwise sessions to MLS, and what a person can do about it. */
import type { Client, ClientEvent, Conversation, Migration } from "@murmuration/client-core";
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
import { explainCode } from "../failures.ts";
import { findGroup } from "../lookup.ts";
import { json, nameOf, printable } from "../output.ts";
import { withClient } from "../profile.ts";
import { createProgress } from "../progress.ts";

const STEPS = ["start", "abort", "finish-now"] as const;

export const migration: Command = {
  path: ["group", "migration"],
  summary: "Shows how far a group is on its way to MLS, begins the move, gives it up, or ends the waiting.",
  operands: [{ name: "GROUP" }],
  options: {
    start: { help: "begin to move the group, whatever its size" },
    abort: { help: "give the move up; not once the group has switched" },
    "finish-now": { help: "do not wait for those who are not ready; on the device that prepares the move" },
    follow: { help: "stay connected and show progress until the group has moved, at most for --wait" },
    ...jsonOption,
    ...waitOption,
  },
  notes:
    "A move goes on by itself while the device that prepares it is connected (listen, chat, or --follow), and messages\n" +
    "go on all the time. Who is not ready when a deadline is over, or with --finish-now, is left behind and comes in\n" +
    "alone later. Without an option nothing is asked of the delivery service.",
  run: (context) =>
    withClient(context, async (client) => {
      const { options } = context;
      const group = findGroup(client, context.operands[0]!);
      const asked = STEPS.filter((step) => options.flag(step));
      const [step] = asked;
      if (asked.length > 1)
        throw new WrongUsage(`Only one of ${STEPS.map((name) => `--${name}`).join(", ")}.`);
      if (step !== undefined || options.flag("follow")) await catchUp(client, context);
      if (step !== undefined) {
        await group.migrate(step);
        await settle(client, context);
      }
      if (options.flag("follow")) await followMove(client, group, context, () => hasMoved(group));
      const { id, title, protocol, migration: state } = group;
      if (options.flag("json")) context.print(json({ id, title, protocol, migration: state ?? null }));
      else for (const line of describeMove(client, group, Date.now())) context.print(line);
      return 0;
    }),
};

/** Whether there is nothing to wait for any more: it is through, or was given up. */
export function hasMoved({ protocol, migration: move }: Conversation): boolean {
  if (move === undefined || (move.state === "pairwise" && move.waitingMembers === 0)) return true;
  // Whoever prepares it has more to do behind its own switch.
  return protocol === "mls" && (!move.isCreator || move.state === "mls") && move.waitingMembers === 0;
}

/** What members of a group do to be moved or added, as it happens. Returns how to stop. */
export function showProgress(client: Client, group: Conversation, { terminal }: CommandContext): () => void {
  const progress = createProgress(terminal.errors);
  let stage = "";
  let shown = 0;
  const show = (label: string, done: number, total: number): void => {
    if (label !== stage) {
      progress.stage(label, total);
      [stage, shown] = [label, 0];
    }
    progress.step(done - shown);
    shown = done;
  };
  const stop = client.events.on((event: ClientEvent) => {
    if (!("conversationId" in event) || event.conversationId !== group.id) return;
    if (event.kind === "migration") show(WORDS_OF_STATE[event.state], event.readyAccounts, event.accounts);
    if (event.kind === "progress")
      show(`${event.action === "add" ? "adding" : "removing"} members`, event.done, event.total);
  });
  return () => {
    stop();
    progress.end();
  };
}

/** Stays connected until the condition holds, the waiting time is over, or the user interrupts. */
export async function followMove(
  client: Client,
  group: Conversation,
  context: CommandContext,
  isOver: () => boolean,
): Promise<void> {
  const stopShowing = showProgress(client, group, context);
  const ended = AbortSignal.any([context.signal, AbortSignal.timeout(waitMs(context))]);
  try {
    await new Promise<void>((resolve) => {
      const look = (): void => {
        if (!isOver() && !ended.aborted) return;
        stop();
        resolve();
      };
      const stop = client.events.on(look);
      ended.addEventListener("abort", look, { once: true });
      look();
    });
  } finally {
    stopShowing();
  }
}

const WORDS_OF_STATE: Readonly<Record<Migration["state"], string>> = {
  pairwise: "not moving",
  preparing: "preparing the move to MLS",
  ready: "ready to move to MLS",
  switching: "moving to MLS",
  mls: "moved to MLS",
  recovering: "making the MLS group anew",
};

const WORDS_OF_WAITING: Readonly<Record<Migration["waitsFor"], string>> = {
  members: "members who are not ready",
  service: "the delivery service, and the device that prepares the move",
  switch: "the switch, which comes next",
  nothing: "nothing",
};

/** Lines for people. `nowMs` is for what is still to come. */
export function describeMove(client: Client, group: Conversation, nowMs: number): readonly string[] {
  const { migration: move, protocol } = group;
  const title = printable(group.title);
  if (move === undefined)
    return [
      protocol === "mls"
        ? `${title}: a community over MLS from the start`
        : `${title}: pairwise; has not begun to move to MLS (see --start)`,
    ];
  const rows: (readonly [string, string])[] = [
    ["messages go", protocol === "mls" ? "over MLS" : "pairwise"],
    ["prepared by", preparedBy(client, move)],
    ...(move.startedAtMs === undefined ? [] : [["since", time(move.startedAtMs)] as const]),
    ["ready", readiness(protocol, move)],
    ...move.notReady.map(
      ({ accountId, code }) =>
        [
          protocol === "mls" ? "left behind" : "not ready",
          `${nameOf(client, accountId)}: ${explainCode(code)}`,
        ] as const,
    ),
    ...deadline(move, nowMs),
    ["waits for", WORDS_OF_WAITING[move.waitsFor]],
    ["to be added", `${move.waitingMembers} members, as soon as the group has moved`],
    ["messages", `${client.outbox.waiting} wait for the delivery service`],
  ];
  const width = Math.max(...rows.map(([label]) => label.length));
  return [
    `${title}: ${WORDS_OF_STATE[move.state]} (${move.state}, generation ${move.generation})`,
    ...rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`),
  ];
}

const time = (atMs: number): string => new Date(atMs).toISOString();

function preparedBy(client: Client, { creator, isCreator }: Migration): string {
  if (creator === undefined) return "nobody";
  return isCreator ? "this device" : nameOf(client, creator);
}

function readiness(protocol: Conversation["protocol"], move: Migration): string {
  const isUnderWay = move.state === "preparing" || move.state === "ready" || move.state === "recovering";
  if (isUnderWay && !move.isCreator) return "only the device that prepares the move knows";
  if (!isUnderWay && protocol === "pairwise") return "nobody has to be";
  return `${move.readyAccounts} of ${move.accounts}`;
}

function deadline({ deadlineAtMs, state }: Migration, nowMs: number): readonly (readonly [string, string])[] {
  const isAhead = state === "preparing" || state === "ready" || state === "recovering";
  if (deadlineAtMs === undefined || !isAhead) return [];
  const minutes = Math.max(0, Math.ceil((deadlineAtMs - nowMs) / 60_000));
  return [
    ["deadline", `${time(deadlineAtMs)}, in ${minutes} min: then it goes on without those who are not ready`],
  ];
}
