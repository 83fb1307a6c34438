/** Some clients of a chaos run in one process, each with its own database, key and connections. */
import { fromHex, toHex, UnavailableError } from "@murmuration/base";
import {
  type Client,
  type ClientEvent,
  type ClientSettings,
  type Conversation,
  connectTo,
  openClient,
  openSqlcipher,
  type Storage,
} from "@murmuration/client-core";
import { serveRequests } from "../serve-requests.ts";
import { testSettings, until } from "../world.ts";
import { CommitWatch } from "./commit-watch.ts";
import type { ClientReport, GroupHistory, GroupView, OpenedClient } from "./messages.ts";

const PATIENCE_MS = 60_000;
/** Events are deleted when so many have been seen. */
const EVENTS_KEPT = 500;

interface Running {
  readonly client: Client;
  readonly storage: Storage;
  /** When the service's word came that a message is durable, by its text. */
  readonly acceptedAtMs: Map<string, number>;
  /** Codes of what a person was asked to decide. */
  readonly decisions: string[];
  /** Messages by group, as events told of them. */
  readonly lines: Map<string, number>;
}

const clients = new Map<number, Running>();
const watch = new CommitWatch();
/** Who waits for the next commit that leaves, and for the next message that is accepted. */
const waiting = { commit: [] as (() => void)[], "fan-out": [] as (() => void)[] };

function happens(moment: keyof typeof waiting): void {
  for (const resolve of waiting[moment].splice(0)) resolve();
}
watch.onSent = () => happens("commit");

function running(number: number): Running {
  const found = clients.get(number);
  if (found === undefined) throw new Error("no such client");
  return found;
}

function conversation(number: number, group: string): Conversation {
  const found = running(number).client.conversations.get(group);
  if (found === undefined) throw new Error("no such group");
  return found;
}

/** Goes on until the service is there: what is asked is done once, however often it is asked. */
async function insist<T>(work: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  }
}

function see({ acceptedAtMs, decisions, lines, client }: Running, event: ClientEvent): void {
  if (event.kind === "line-added" && event.line?.kind === "message")
    lines.set(event.conversationId, (lines.get(event.conversationId) ?? 0) + 1);
  if (event.kind === "decision-needed") decisions.push(event.code);
  if (event.kind === "line-changed" && event.line?.kind === "message" && event.line.outgoing) {
    const { text, sendState } = event.line;
    if (sendState !== "accepted" || acceptedAtMs.has(text)) return;
    acceptedAtMs.set(text, Date.now());
    happens("fan-out");
  }
  if (event.eventId > client.events.acknowledged + EVENTS_KEPT) void client.events.acknowledge(event.eventId);
}

interface OpenParameters {
  readonly number: number;
  readonly path: string;
  readonly key: string;
  readonly origin: string;
  readonly settings: Partial<ClientSettings>;
}

async function open({ number, path, key, origin, settings }: OpenParameters): Promise<OpenedClient> {
  const storage = openSqlcipher({ path, key: fromHex(key) });
  const client = await openClient({
    storage,
    transport: watch.wrapTransport(connectTo(origin)),
    settings: { ...testSettings, ...settings },
  });
  const opened: Running = { client, storage, acceptedAtMs: new Map(), decisions: [], lines: new Map() };
  clients.set(number, opened);
  client.events.on((event) => see(opened, event));
  const account = await insist(() => client.register({ name: `Member ${number}` }));
  client.connection.start();
  await client.connection.caughtUp(PATIENCE_MS);
  return { accountId: account.accountId, contactCard: account.contactCard };
}

function view(number: number, group: string): GroupView {
  const { storage, client, lines: counts } = running(number);
  const found = client.conversations.get(group);
  const lines = counts.get(group) ?? 0;
  if (found === undefined) return { state: "unknown", members: [], epoch: -1, authenticator: "", lines };
  const members = found.members().map(({ accountId, role, invited }) => `${accountId}/${role}/${invited}`);
  const alike = { state: found.state, title: found.title, expiry: found.expireAfterSeconds };
  const common = { ...alike, members: members.sort(), lines };
  if (found.protocol === "pairwise") return { ...common, epoch: -1, authenticator: "" };
  // The client keeps the hash of each epoch's authenticator, to compare with what others say.
  const row = storage.get(
    "SELECT epoch, hash FROM mls_epoch WHERE group_id = ? ORDER BY epoch DESC LIMIT 1",
    [Buffer.from(group, "base64url")],
  );
  return {
    ...common,
    standing: found.community.standing,
    epoch: Number(row?.["epoch"] ?? -1),
    authenticator: toHex((row?.["hash"] as Uint8Array | undefined) ?? new Uint8Array()),
  };
}

/** O(lines of the group). */
function history(number: number, group: string): GroupHistory {
  const found = running(number).client.conversations.get(group);
  const lines: [string, number][] = [];
  let messagesLost = 0;
  let after = 0;
  for (;;) {
    const page = found?.history({ after, limit: 1_000 }) ?? [];
    if (page.length === 0) return { lines, messagesLost };
    for (const line of page) {
      if (line.kind === "message") lines.push([line.text, line.storedAtMs]);
      else if (line.notice.code === "conversation/message-lost") messagesLost++;
    }
    after = page.at(-1)!.historyId;
  }
}

interface Change {
  readonly client: number;
  readonly group: string;
  readonly what: "add" | "remove" | "title" | "expiry";
  readonly account: string;
  readonly value: number;
}

async function change({ client, group, what, account, value }: Change): Promise<string> {
  const place = conversation(client, group);
  if (what === "add") {
    const leftOut = await place.add([account]);
    return leftOut[0]?.code ?? "done";
  }
  if (what === "remove") await place.remove(account);
  else if (what === "title") await place.setTitle(`Title ${value}`);
  else await place.setExpiry(7 * 86_400 + value);
  return "done";
}

serveRequests(
  {
    open,
    async addContacts({ client, cards }: { client: number; cards: string[] }) {
      for (const card of cards) await running(client).client.contacts.add(card);
    },
    async createGroup(group: { client: number; title: string; members: string[]; protocol: string }) {
      const { client, title, members, protocol } = group;
      const mls = protocol === "mls" ? ({ protocol } as const) : {};
      return (await running(client).client.conversations.createGroup({ title, members, ...mls })).id;
    },
    async makeAdmin({ client, group, account }: { client: number; group: string; account: string }) {
      await conversation(client, group).setRole(account, "admin");
    },
    async awaitActive({ client, group, members }: { client: number; group: string; members: number }) {
      const { conversations } = running(client).client;
      const isIn = () => {
        const found = conversations.get(group);
        return found?.state === "active" && found.memberCount === members;
      };
      await until(isIn, PATIENCE_MS, "an active group");
    },
    async send({ client, group, text }: { client: number; group: string; text: string }) {
      await conversation(client, group).send({ text });
    },
    isMember({ client, group, account }: { client: number; group: string; account: string }) {
      return conversation(client, group)
        .members()
        .some((member) => member.accountId === account);
    },
    change,
    /** Answers when it happens. */
    next: ({ moment }: { moment: keyof typeof waiting }) =>
      new Promise<void>((resolve) => waiting[moment].push(resolve)),
    pulse: ({ groups }: { groups: [client: number, group: string][] }) => ({
      waiting: [...clients.values()].reduce((sum, { client }) => sum + client.outbox.waiting, 0),
      views: groups.map(([client, group]) => view(client, group)),
    }),
    history: ({ client, group }: { client: number; group: string }) => history(client, group),
    report: ({ client }: { client: number }): ClientReport => {
      const { acceptedAtMs, decisions, client: its } = running(client);
      return { accepted: [...acceptedAtMs], decisions, costs: { ...its.communityCosts } };
    },
    commits: () => watch.commits,
  },
  async () => {
    await Promise.all([...clients.values()].map(({ client }) => client.close()));
  },
);
