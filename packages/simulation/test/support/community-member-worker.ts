/**
 * Members of a community in a process of their own: only there is the CPU of the process theirs. The storage is that of
 * `demo --light`, which does not wait for the disk, so that the work is seen and not the disk. What is asked of it is
 * counted by statement.
 */
import { generateKeyPairSync, hash, sign } from "node:crypto";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import {
  type Client,
  type ClientEvent,
  connectTo,
  openClient,
  type Socket,
  type Storage,
  type Transport,
} from "@murmuration/client-core";
import { openLightStorage } from "../../../../apps/reference-client/src/demo/light-storage.ts";
import { serveRequests } from "../../src/serve-requests.ts";
import { testSettings, until } from "../../src/world.ts";

/** What some messages took. */
export interface CommunityCost {
  /** Of the process, for one message. */
  readonly cpuUs: number;
  /** Of the first client, one after the other: for each message where it speaks, all together where it listens. */
  readonly counts: readonly Counts[];
  /** By the text of the statement, all together. */
  readonly statements: Readonly<Record<string, number>>;
}

interface Counts {
  readonly statements: number;
  readonly transactions: number;
  /** Frames handed to a socket. */
  readonly frames: number;
}

const texts = new Map<string, number>();
let counts = { statements: 0, transactions: 0, frames: 0 };

function note(sql: string): void {
  texts.set(sql, (texts.get(sql) ?? 0) + 1);
  counts.statements++;
}

/** The storage as it is, with a count of what is asked of it. */
function counted(storage: Storage): Storage {
  return {
    exec: (sql) => storage.exec(sql),
    run: (sql, parameters) => {
      note(sql);
      return storage.run(sql, parameters);
    },
    get: (sql, parameters) => {
      note(sql);
      return storage.get(sql, parameters);
    },
    all: (sql, parameters) => {
      note(sql);
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

function countedTransport(transport: Transport): Transport {
  const wrap = (socket: Socket): Socket => ({
    send: (frame) => {
      counts.frames++;
      socket.send(frame);
    },
    close: () => socket.close(),
    get bytesSent() {
      return socket.bytesSent;
    },
    get bytesReceived() {
      return socket.bytesReceived;
    },
  });
  return {
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => wrap(await transport.connect(handlers, timeoutMs)),
    request: (request) => transport.request(request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  };
}

const clients: Client[] = [];
/** Lines of the first client that an application was shown: added, and accepted by the service. */
const shown = { added: 0, accepted: 0 };
let changed: () => void = () => undefined;

function see(event: ClientEvent): void {
  if (event.kind === "line-added") shown.added++;
  else if (
    event.kind === "line-changed" &&
    event.line?.kind === "message" &&
    event.line.sendState === "accepted"
  )
    shown.accepted++;
  else return;
  changed();
}

async function untilShown(what: keyof typeof shown, count: number): Promise<void> {
  while (shown[what] < count)
    await new Promise<void>((resolve) => {
      changed = resolve;
    });
}

const conversation = (id: string) => clients[0]!.conversations.get(id)!;

let since = process.cpuUsage();
let perMessage: Counts[] = [];

function begin(): void {
  texts.clear();
  perMessage = [];
  counts = { statements: 0, transactions: 0, frames: 0 };
  since = process.cpuUsage();
}

/** What was counted since the last one is of its own. */
function next(): void {
  perMessage.push(counts);
  counts = { statements: 0, transactions: 0, frames: 0 };
}

function costs(messages: number): CommunityCost {
  const { user, system } = process.cpuUsage(since);
  return { cpuUs: (user + system) / messages, counts: perMessage, statements: Object.fromEntries(texts) };
}

serveRequests(
  {
    /** Opens and registers clients; returns their contact cards and ids. */
    async open({ directory, origin, count }: { directory: string; origin: string; count: number }) {
      const accounts: { card: string; id: string }[] = [];
      for (let i = 0; i < count; i++) {
        const light = openLightStorage(`${directory}/${process.pid}-${i}.db`);
        const storage = clients.length === 0 ? counted(light) : light;
        const transport = connectTo(origin);
        const client = await openClient({
          storage,
          transport: clients.length === 0 ? countedTransport(transport) : transport,
          settings: { ...testSettings, mlsThreshold: 3, keyPackageStock: 2 },
        });
        const account = await client.register({ name: `Member ${i}` });
        if (clients.length === 0) client.events.on(see);
        client.connection.start();
        await client.connection.caughtUp();
        clients.push(client);
        accounts.push({ card: account.contactCard, id: account.accountId });
      }
      return accounts;
    },
    async createGroup({ accounts }: { accounts: { card: string; id: string }[] }) {
      const [client] = clients;
      for (const { card } of accounts) await client!.contacts.add(card);
      const members = accounts.map(({ id }) => id);
      return (await client!.conversations.createGroup({ title: "A flock", members, protocol: "mls" })).id;
    },
    async awaitGroup({ group, members }: { group: string; members: number }) {
      for (const client of clients)
        await until(() => client.conversations.get(group)?.memberCount === members, 60_000, "all are in");
    },
    /** Says messages one at a time, each when the one before it is shown as accepted. */
    async speak({ group, count }: { group: string; count: number }): Promise<CommunityCost> {
      const place = conversation(group);
      begin();
      for (let i = 0; i < count; i++) {
        const { accepted } = shown;
        await place.send({ text: `This is message ${i}, of a length that people write.` });
        await untilShown("accepted", accepted + 1);
        next();
      }
      return costs(count);
    },
    /** Begins to count; `heard` says what it came to. */
    listen() {
      shown.added = 0;
      begin();
    },
    async heard({ count }: { count: number }): Promise<CommunityCost> {
      await untilShown("added", count);
      next();
      return costs(count);
    },
    /** Sends back whatever comes. Returns its port. */
    async echo() {
      const server = createServer((socket) => socket.pipe(socket)).listen(0, "127.0.0.1");
      await once(server, "listening");
      return (server.address() as AddressInfo).port;
    },
    /**
     * What cannot be done without, as often: a durable transaction with a few rows before a message leaves, and another
     * when it comes back; a signature, a hash. Between two processes, because whoever waits for another one finds its
     * caches cold on a busy machine.
     */
    async floor({ directory, port, count }: { directory: string; port: number; count: number }) {
      const storage = openLightStorage(`${directory}/floor-${process.pid}.db`);
      storage.exec("CREATE TABLE IF NOT EXISTS line (id INTEGER PRIMARY KEY, body BLOB NOT NULL)");
      const { privateKey } = generateKeyPairSync("ed25519");
      const socket = connect(port, "127.0.0.1");
      await once(socket, "connect");
      const body = new Uint8Array(320);
      const write = () =>
        storage.transaction(() => {
          for (let row = 0; row < 5; row++) storage.run("INSERT INTO line (body) VALUES (?)", [body]);
        });
      const before = process.cpuUsage();
      for (let i = 0; i < count; i++) {
        sign(null, body, privateKey);
        hash("sha256", body);
        write();
        socket.write(body);
        await once(socket, "data");
        write();
      }
      const { user, system } = process.cpuUsage(before);
      socket.destroy();
      storage.close();
      return (user + system) / count;
    },
  },
  async () => {
    for (const client of clients) await client.close();
  },
);
