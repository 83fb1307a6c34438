import { text as readAll } from "node:stream/consumers";
import { type Command, catchUp, jsonOption, settle, waitMs, waitOption } from "../command.ts";
import { CommandFailed, EXIT_FAILED } from "../failures.ts";
import { findAccount, findConversation } from "../lookup.ts";
import { formatLine, json } from "../output.ts";
import { withClient } from "../profile.ts";

export const send: Command = {
  path: ["send"],
  summary: "Sends a text to a contact or a group.",
  operands: [{ name: "CONVERSATION" }, { name: "TEXT" }],
  options: {
    mention: { value: "CONTACTS", help: "whom the text mentions, separated by commas" },
    ...jsonOption,
    ...waitOption,
  },
  notes:
    "TEXT of a single dash reads standard input. The message is on disk before it leaves. When the service\n" +
    "cannot be reached it stays in the outbox, the exit code is 3, and the next command that connects sends it.",
  async run(context) {
    const { options, operands, print, terminal } = context;
    return withClient(context, async (client) => {
      const conversation = findConversation(client, operands[0]!);
      const text = operands[1] === "-" ? await readAll(terminal.input) : operands[1]!;
      const names = options.text("mention")?.split(",") ?? [];
      const mentions = names.map((name) => findAccount(client, name));
      const sent = await conversation.send({ text, mentions });
      await settle(client, context, sent.messageId);
      const line = conversation.message({ author: client.account!.accountId, messageId: sent.messageId });
      const failed = line?.kind === "message" && line.sendState === "failed";
      if (options.flag("json"))
        print(json({ ...sent, conversationId: conversation.id, state: failed ? "failed" : "accepted" }));
      if (failed)
        throw new CommandFailed(`The message cannot be sent (${line.failure ?? "unknown"}).`, EXIT_FAILED);
      return 0;
    });
  },
};

export const listen: Command = {
  path: ["listen"],
  summary: "Receives, and prints each event as one line of JSON.",
  operands: [],
  options: {
    after: {
      value: "ID",
      help: "everything up to this event id is dealt with; go on behind it",
      between: [0, Number.MAX_SAFE_INTEGER],
    },
    count: { value: "N", help: "stop after this many events", between: [1, 1e9] },
    for: { value: "SECONDS", help: "stop after this time", between: [1, 1e6] },
    ...waitOption,
  },
  notes:
    "Events come at least once. Keep the last `eventId` you have dealt with and pass it to --after the next time:\n" +
    "only then is it forgotten here. Events with id 0 (typing, connection) are not stored.",
  async run(context) {
    const { options, print, signal } = context;
    const after = options.integer("after");
    const count = options.integer("count") ?? Number.POSITIVE_INFINITY;
    const seconds = options.integer("for");
    return withClient(context, async (client) => {
      if (after !== undefined) await client.events.acknowledge(after);
      const stop = new AbortController();
      const signals = [
        signal,
        stop.signal,
        ...(seconds === undefined ? [] : [AbortSignal.timeout(seconds * 1000)]),
      ];
      const until = AbortSignal.any(signals);
      const unsubscribe = client.events.on((event) => {
        if (event.eventId === 0) print(json(event));
      });
      let unreachable: unknown;
      client.connection.start();
      const reached = client.connection.caughtUp(waitMs(context)).catch((error: unknown) => {
        if (!until.aborted) unreachable = error;
        stop.abort();
      });
      let printed = 0;
      for await (const event of client.events.listen({ signal: until })) {
        print(json(event));
        if (++printed >= count) break;
      }
      unsubscribe();
      stop.abort();
      await reached;
      if (unreachable !== undefined && printed < count) throw unreachable;
      return 0;
    });
  },
};

export const history: Command = {
  path: ["history"],
  summary: "Shows the last messages of a conversation.",
  operands: [{ name: "CONVERSATION" }],
  options: {
    limit: { value: "N", help: "how many lines (default: 50)", between: [1, 100_000] },
    receive: { help: "first receive what waits at the delivery service" },
    ...jsonOption,
    ...waitOption,
  },
  async run(context) {
    const { options, operands, print } = context;
    const limit = options.integer("limit") ?? 50;
    return withClient(context, async (client) => {
      if (options.flag("receive")) await catchUp(client, context);
      const conversation = findConversation(client, operands[0]!);
      const lines = conversation.history({ before: Number.MAX_SAFE_INTEGER, limit });
      for (const line of lines) print(options.flag("json") ? json(line) : formatLine(client, line));
      return 0;
    });
  },
};
