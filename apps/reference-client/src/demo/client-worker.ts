/**
 * A process that holds some members of a demo run. Each has its own database, key and connections; they share
 * nothing but code. Every new line is reported to the orchestrator, and acknowledged when it has recorded it.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as delay } from "node:timers/promises";
import { fromHex, InvariantError, MurmurationError, UnavailableError } from "@murmuration/base";
import {
  type Client,
  type ClientEvent,
  type Conversation,
  connectTo,
  type OwnAccount,
  openClient,
  openSqlcipher,
  systemEnvironment,
  type Transport,
} from "@murmuration/client-core";
import { openLightStorage } from "./light-storage.ts";
import {
  type Answer,
  type ClientRequest,
  type Costs,
  cpuUs,
  type History,
  type MoveNote,
  type Numbered,
  type Opened,
  type Report,
  type ReportedEvent,
  type Sent,
  type Usage,
} from "./messages.ts";
import { messageIndex } from "./tally.ts";

/** How long events are gathered before they are reported, ms. */
const REPORT_DELAY_MS = 20;
/** Time for one step against a service that may be dead for a while, ms. */
const PATIENCE_MS = 600_000;

/** A condition is looked at with each event, and after this time in any case, ms. */
const LOOK_AGAIN_MS = 5_000;

/** Members whose CPU for commits is measured: asking the system for it at every commit of everybody would cost more. */
const MEASURED = 8;

interface Member {
  readonly client: Client;
  readonly transport: Transport;
}

const members = new Map<number, Member>();
const named = new Map<number, Set<string>>();

function member(number: number): Client {
  const found = members.get(number);
  if (found === undefined) throw new InvariantError("demo/unknown-member");
  return found.client;
}

/** Whoever comes when the group has moved knows it by the id of its MLS group: then it is the one group that there is. */
function groupOf(client: Client, group: string): Conversation | undefined {
  return client.conversations.get(group) ?? client.conversations.list().find(({ kind }) => kind === "group");
}

function conversation(client: Client, group: string): Conversation {
  const found = groupOf(client, group);
  if (found === undefined) throw new InvariantError("demo/unknown-group");
  return found;
}

async function open(request: Extract<ClientRequest, { op: "open" }>): Promise<Opened> {
  mkdirSync(request.home, { recursive: true, mode: 0o700 });
  const transport = connectTo(request.server);
  const path = join(request.home, "client.db");
  const storage = request.light ? openLightStorage(path) : openSqlcipher({ path, key: fromHex(request.key) });
  const environment = request.member < MEASURED ? { ...systemEnvironment, cpuUs } : systemEnvironment;
  const client = await openClient({ storage, transport, settings: request.settings, environment });
  members.set(request.member, { client, transport });
  const account = client.account ?? (await register(client, `member ${request.member}`));
  client.connection.start();
  void report(request.member, client);
  return { accountId: account.accountId, contactCard: account.contactCard };
}

/** Registering may be repeated until it is answered: it goes on with the same keys. */
async function register(client: Client, name: string): Promise<OwnAccount> {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await client.register({ name });
    } catch (error) {
      if (!(error instanceof UnavailableError) || Date.now() > deadline) throw error;
    }
  }
}

/** What is gathered of each member, until it is reported. */
let gathered = new Map<number, { readonly events: ReportedEvent[]; readonly notes: MoveNote[] }>();

/** What is to be reported of a member; all that this process has gathered goes in a moment. */
function toReport(number: number): { readonly events: ReportedEvent[]; readonly notes: MoveNote[] } {
  if (gathered.size === 0) setTimeout(sendReports, REPORT_DELAY_MS);
  const report = gathered.get(number) ?? { events: [], notes: [] };
  gathered.set(number, report);
  return report;
}

function sendReports(): void {
  const reports = [...gathered].map(([member, report]) => ({ member, ...report }));
  gathered = new Map();
  if (process.connected) process.send!({ reports } satisfies Report);
}

/** Reports every stored event, from the acknowledged one on: at least once, so the orchestrator de-duplicates. */
async function report(number: number, client: Client): Promise<void> {
  client.events.on((event) => {
    const note = noteOf(event);
    if (note !== undefined) toReport(number).notes.push(note);
  });
  for await (const event of client.events.listen())
    if (event.eventId !== 0) toReport(number).events.push(reported(event));
}

function noteOf(event: ClientEvent): MoveNote | undefined {
  const { atMs, kind } = event;
  if (kind === "migration")
    return { atMs, kind, state: event.state, done: event.readyAccounts, total: event.accounts };
  if (kind === "progress") return { atMs, kind, done: event.done, total: event.total };
  return undefined;
}

function reported(event: ClientEvent): ReportedEvent {
  const { atMs, eventId: id } = event;
  if (event.kind === "protocol-changed") return { id, atMs, what: "switched" };
  if (event.kind === "conversation-changed" && event.state === "active") return { id, atMs, what: "joined" };
  if (event.kind !== "line-added" && event.kind !== "line-changed") return { id, atMs, what: "other" };
  const message = event.line?.kind === "message" ? messageIndex(event.line.text) : undefined;
  if (message === undefined || event.line?.kind !== "message") return { id, atMs, what: "other" };
  if (event.kind === "line-added") return { id, atMs, message, what: event.line.outgoing ? "said" : "came" };
  const isAccepted = event.change === "send-state" && event.line.sendState === "accepted";
  return isAccepted ? { id, atMs, message, what: "accepted" } : { id, atMs, what: "other" };
}

/** Accounts of the group that this process has not named for a member. O(members) where their number has changed. */
function newlyJoined(number: number, group: Conversation): readonly string[] {
  const known = named.get(number) ?? new Set<string>();
  named.set(number, known);
  if (known.size === group.memberCount) return [];
  const joined: string[] = [];
  let page = group.members();
  while (page.length > 0) {
    for (const { accountId } of page) if (!known.has(accountId)) joined.push(accountId);
    page = group.members({ after: page.at(-1)!.accountId });
  }
  for (const account of joined) known.add(account);
  return joined;
}

async function awaitGroup(client: Client, group: string, count: number): Promise<void> {
  await until(client, async () => {
    const found = groupOf(client, group);
    if (found?.state === "request" || found?.state === "invited") await found.accept();
    return found?.state === "active" && found.memberCount === count;
  });
}

/**
 * Waits for something that a conversation is: it can only become true where one changes. Looking at it with every message
 * would cost hundreds of members a good part of what a message costs them.
 */
async function until(client: Client, holds: () => Promise<boolean>): Promise<void> {
  let wake: () => void = () => undefined;
  const stop = client.events.on(({ kind }) => {
    if (kind === "conversation-changed" || kind === "protocol-changed") wake();
  });
  try {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await holds())) {
      if (Date.now() > deadline) throw new InvariantError("demo/waited-too-long");
      const looked = new AbortController();
      await Promise.race([
        new Promise<void>((resolve) => {
          wake = resolve;
        }),
        delay(LOOK_AGAIN_MS, undefined, { signal: looked.signal }).catch(() => undefined),
      ]);
      looked.abort();
    }
  } finally {
    stop();
  }
}

function history(client: Client, group: string): History {
  const found = conversation(client, group);
  const messages: number[] = [];
  let page = found.history({ after: 0 });
  while (page.length > 0) {
    for (const line of page) {
      const index = line.kind === "message" ? messageIndex(line.text) : undefined;
      if (index !== undefined) messages.push(index);
    }
    page = found.history({ after: page.at(-1)!.historyId });
  }
  return { messages, protocol: found.protocol };
}

/** Where the connection breaks on the way, the group is there all the same and goes on with the next one. */
async function createGroup({ conversations }: Client, accounts: readonly string[]): Promise<string> {
  try {
    return (await conversations.createGroup({ title: "demo", members: accounts })).id;
  } catch (error) {
    const begun = conversations.list().find(({ kind }) => kind === "group");
    if (!(error instanceof UnavailableError) || begun === undefined) throw error;
    return begun.id;
  }
}

/** What is measured is a client that has been running for a while: a new process interprets most of its code. */
async function practise(client: Client, messages: number): Promise<void> {
  const { conversations, outbox } = client;
  const group = await conversations.createGroup({ title: "practice", members: [], protocol: "mls" });
  for (let index = 0; index < messages; index++) {
    await group.send({ text: "practice" });
    await outbox.settled({ timeoutMs: PATIENCE_MS });
  }
}

function usage(): Usage {
  let sent = 0;
  let received = 0;
  for (const { transport } of members.values()) {
    sent += transport.traffic.sent;
    received += transport.traffic.received;
  }
  return { cpuUs: cpuUs(), sent, received };
}

async function answer(request: ClientRequest): Promise<unknown> {
  switch (request.op) {
    case "open":
      return open(request);
    case "add-contacts":
      for (const card of request.cards) await member(request.member).contacts.add(card);
      return undefined;
    case "create-group":
      return createGroup(member(request.member), request.accounts);
    case "await-group":
      return awaitGroup(member(request.member), request.group, request.members);
    case "add": {
      const left = await conversation(member(request.member), request.group).add(request.accounts);
      if (left.length > 0) throw new InvariantError("demo/left-out");
      return undefined;
    }
    case "send": {
      const group = conversation(member(request.member), request.group);
      const joined = newlyJoined(request.member, group);
      const before = cpuUs();
      await group.send({ text: request.text });
      if (request.measured === undefined) return { joined } satisfies Sent;
      await member(request.member).outbox.settled({ timeoutMs: PATIENCE_MS });
      return { joined, cpuUs: cpuUs() - before } satisfies Sent;
    }
    case "practise":
      return practise(member(request.member), request.messages);
    case "settle":
      return member(request.member).outbox.settled({ timeoutMs: PATIENCE_MS });
    case "history":
      return history(member(request.member), request.group);
    case "acknowledge":
      for (const { member: number, eventId } of request.through)
        await member(number).events.acknowledge(eventId);
      return undefined;
    case "usage":
      return usage();
    case "costs":
      return [...members.values()].map(({ client }) => ({ ...client.communityCosts })) satisfies Costs;
    case "close":
      await Promise.all([...members.values()].map(({ client }) => client.close()));
      return undefined;
  }
}

process.on("message", ({ id, request }: Numbered<ClientRequest>) => {
  answer(request).then(
    (value) => process.send?.({ id, value } satisfies Answer),
    (error: unknown) => {
      const code = error instanceof MurmurationError ? error.code : String(error);
      process.send?.({ id, error: code } satisfies Answer);
    },
  );
});
// Nothing of a run outlives its orchestrator.
process.on("disconnect", () => process.exit());
