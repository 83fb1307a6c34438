/** One client in a process of its own, with its own database, key and connections. */
import { fromHex } from "@murmuration/base";
import {
  type Client,
  type ClientSettings,
  type Conversation,
  connectTo,
  type Migration,
  openClient,
  openSqlcipher,
  type Role,
  systemEnvironment,
} from "@murmuration/client-core";
import { serveRequests } from "./serve-requests.ts";
import { textsOf, until } from "./world.ts";

export interface OpenParameters {
  readonly path: string;
  readonly key: string;
  readonly origin: string;
  readonly name: string;
  readonly settings: Partial<ClientSettings>;
}

/** Where a group is, as this client sees it. */
export interface Standing {
  readonly protocol: Conversation["protocol"];
  readonly state: Conversation["state"];
  readonly migration: Migration["state"] | undefined;
  readonly generation: number;
  readonly readyAccounts: number;
  readonly members: number;
}

let opened: Client | undefined;
/** How far this client's clock is ahead of the machine's, ms. */
let aheadMs = 0;
const environment = { ...systemEnvironment, now: () => Date.now() + aheadMs };

function client(): Client {
  if (opened === undefined) throw new Error("not open");
  return opened;
}

function conversation(id: string): Conversation {
  return client().conversations.get(id) ?? client().conversations.direct(id);
}

serveRequests(
  {
    async open({ path, key, origin, name, settings }: OpenParameters) {
      const storage = openSqlcipher({ path, key: fromHex(key) });
      opened = await openClient({ storage, transport: connectTo(origin), settings, environment });
      const account = opened.account ?? (await opened.register({ name }));
      opened.connection.start();
      return { accountId: account.accountId, contactCard: account.contactCard };
    },
    async passTime({ ms }: { ms: number }) {
      aheadMs += ms;
    },
    async addContact({ card }: { card: string }) {
      await client().contacts.add(card);
    },
    async createGroup({ title, members }: { title: string; members: string[] }) {
      return (await client().conversations.createGroup({ title, members })).id;
    },
    async send({ to, text }: { to: string; text: string }) {
      return (await conversation(to).send({ text })).messageId;
    },
    async settled({ timeoutMs }: { timeoutMs: number }) {
      await client().outbox.settled({ timeoutMs });
    },
    async caughtUp({ timeoutMs }: { timeoutMs: number }) {
      await client().connection.caughtUp(timeoutMs);
    },
    texts: ({ id }: { id: string }) => textsOf(client(), id),
    async awaitTexts({ id, texts, timeoutMs }: { id: string; texts: string[]; timeoutMs: number }) {
      const all = () => {
        const seen = new Set(textsOf(client(), id));
        return texts.every((text) => seen.has(text));
      };
      await until(all, timeoutMs, "every text");
    },
    async setRole({ id, member, role }: { id: string; member: string; role: Role }) {
      await conversation(id).setRole(member, role);
    },
    async remove({ id, member }: { id: string; member: string }) {
      await conversation(id).remove(member);
    },
    async migrate({ id, step }: { id: string; step: "start" | "finish-now" }) {
      await conversation(id).migrate(step);
    },
    standing: ({ id }: { id: string }): Standing => {
      const { protocol, state, migration } = conversation(id);
      return {
        protocol,
        state,
        migration: migration?.state,
        generation: migration?.generation ?? 0,
        readyAccounts: migration?.readyAccounts ?? 0,
        members: [...conversation(id).members()].length,
      };
    },
    async awaitActive({ id, timeoutMs }: { id: string; timeoutMs: number }) {
      await until(() => client().conversations.get(id)?.state === "active", timeoutMs, "an active group");
    },
  },
  async () => opened?.close(),
);
