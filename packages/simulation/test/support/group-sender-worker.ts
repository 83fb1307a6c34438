/**
 * The sender of a large group in a process of its own: only there is the CPU of the process the sender's. What the
 * test looks at besides is counted where the client meets its database and its connection.
 */
import { fromHex } from "@murmuration/base";
import {
  type Client,
  type Conversation,
  connectTo,
  openClient,
  openSqlcipher,
  type Storage,
  systemEnvironment,
} from "@murmuration/client-core";
import { openSealedSenderFloor } from "../../../pairwise/src/bench/index.ts";
import { FrameTap } from "../../src/frame-tap.ts";
import { serveRequests } from "../../src/serve-requests.ts";
import { testSettings } from "../../src/world.ts";

/** What one message took. */
export interface MessageCost {
  readonly cpuMs: number;
  /** Statements that write a row of the pairwise engine, that is: a session. */
  readonly sessionWrites: number;
  readonly otherWrites: number;
  readonly queries: number;
  /** Transactions, each of which is a wait for the disk. */
  readonly transactions: number;
  readonly submits: readonly {
    readonly recipients: number;
    readonly devices: number;
    readonly fenced: boolean;
  }[];
}

const counts = { sessionWrites: 0, otherWrites: 0, queries: 0, transactions: 0 };

/** The storage as it is, with a count of what is asked of it. */
function counted(storage: Storage): Storage {
  return {
    exec: (sql) => storage.exec(sql),
    run: (sql, parameters) => {
      if (sql.startsWith("INSERT INTO pairwise ")) counts.sessionWrites++;
      else counts.otherWrites++;
      return storage.run(sql, parameters);
    },
    get: (sql, parameters) => {
      counts.queries++;
      return storage.get(sql, parameters);
    },
    all: (sql, parameters) => {
      counts.queries++;
      return storage.all(sql, parameters);
    },
    transaction: (body, durability) => {
      counts.transactions++;
      return storage.transaction(body, durability);
    },
    get inTransaction() {
      return storage.inTransaction;
    },
    eraseDeleted: () => storage.eraseDeleted(),
    rekey: (key) => storage.rekey(key),
    close: () => storage.close(),
  };
}

async function cpuMsOf(body: () => Promise<unknown>): Promise<number> {
  const before = process.cpuUsage();
  await body();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

const tap = new FrameTap();
const members: string[] = [];
let origin = "";
let client: Client | undefined;
let group: Conversation | undefined;
let floor: Awaited<ReturnType<typeof openSealedSenderFloor>> | undefined;

serveRequests(
  {
    async open(parameters: { path: string; key: string; origin: string }) {
      origin = parameters.origin;
      const storage = counted(openSqlcipher({ path: parameters.path, key: fromHex(parameters.key) }));
      const transport = tap.wrapTransport(connectTo(origin));
      client = await openClient({ storage, transport, settings: testSettings });
      await client.register({ name: "Alice" });
      client.connection.start();
      await client.connection.caughtUp();
    },
    /** Registers accounts of one device each, and adds them to the contacts. */
    async addMembers({ count }: { count: number }) {
      for (let i = 0; i < count; i++) {
        const storage = openSqlcipher({ path: ":memory:", key: systemEnvironment.random(32) });
        // Each is written to by one.
        const settings = { ...testSettings, preKeyStock: 1 };
        const member = await openClient({ storage, transport: connectTo(origin), settings });
        const account = await member.register({ name: `Member ${members.length + 1}` });
        await member.close();
        await client!.contacts.add(account.contactCard);
        members.push(account.accountId);
      }
    },
    async createGroup() {
      group = await client!.conversations.createGroup({ title: "A flock", members });
      await client!.outbox.settled({ timeoutMs: 25_000 });
    },
    async prepareFloor() {
      floor = await openSealedSenderFloor(members.length);
    },
    async send({ text }: { text: string }): Promise<MessageCost> {
      tap.sent.length = 0;
      Object.assign(counts, { sessionWrites: 0, otherWrites: 0, queries: 0, transactions: 0 });
      const cpuMs = await cpuMsOf(async () => {
        await group!.send({ text });
        await client!.outbox.settled();
      });
      const submits = tap.sent.flatMap((body) => {
        if (body.kind !== "submitSealed") return [];
        const devices = body.recipients.flatMap((recipient) => recipient.devices);
        const fenced = body.fence !== undefined;
        return { recipients: body.recipients.length, devices: devices.length, fenced };
      });
      return { cpuMs, ...counts, submits };
    },
    /** What libsignal alone takes to seal as much for as many devices. */
    floor: () => cpuMsOf(() => floor!(new Uint8Array(160))),
  },
  async () => client?.close(),
);
