import { describe, expect, inject, it } from "vitest";
import { PostgresDatabase } from "../../src/adapters/postgres-database.ts";
import { type LocalPostgres, startLocalPostgres } from "../../src/local-engines/index.ts";
import { Appending } from "../support/appending.ts";
import { openSilentRelay } from "../support/silent-relay.ts";

const ANSWERS = 60;

const portOf = ({ url }: LocalPostgres) => ({ host: "127.0.0.1", port: Number(new URL(url).port) });

/** A PostgreSQL with a synchronous replica, and the address by which nodes know whichever of the two is in charge. */
async function startPair() {
  const first = await startLocalPostgres();
  const servers = [first];
  const relay = await openSilentRelay(portOf(first));
  const url = new URL(first.url);
  url.port = String(relay.port);
  const address = { url: url.href, writers: 4, readers: 4, statementTimeoutMs: 4_000 };
  const databases = [await PostgresDatabase.open(address), await PostgresDatabase.open(address)];
  const second = await first.startReplica();
  servers.push(second);
  return {
    first,
    second,
    relay,
    databases,
    [Symbol.asyncDispose]: async () => {
      await relay.dispose();
      await Promise.all(databases.map((database) => database.close()));
      await Promise.all(servers.map((server) => server.dispose()));
    },
  };
}

// The faults that these find: a write that is answered as stored before the replica has it; a node that keeps a connection
// to a server that takes no writes any more.
describe.skipIf(inject("cluster") === undefined)("a PostgreSQL with a synchronous replica", () => {
  it("is lost for ever, and the replica that takes its place has whatever was answered", async () => {
    await using pair = await startPair();
    const { databases, first, relay, second } = pair;
    const appending = new Appending(databases);
    await appending.createGroups();
    await appending.until(ANSWERS, () => first.kill());
    await second.promote();
    relay.leadTo(portOf(second));
    await appending.goOn(0);
    // The nodes go on with it by themselves, as they did with the one before.
    await appending.until(ANSWERS, () => second.kill());
    await second.start();
    await appending.goOn(1);
    console.log(JSON.stringify(appending.counts));
    appending.requireHits();
  });

  it("answers no write as stored while its replica is away, and goes on when it is back", async () => {
    await using pair = await startPair();
    const { databases, first, second } = pair;
    const appending = new Appending(databases);
    await appending.createGroups();
    let answered = 0;
    await appending.until(ANSWERS, async () => {
      await second.kill();
      // What it had on its disk when it died may be answered yet.
      await new Promise((resolve) => setTimeout(resolve, 300));
      ({ answered } = appending.counts);
    });
    expect(appending.counts.answered).toBe(answered);
    await second.start();
    // What waited for it, and was not answered, comes to be there.
    const waiting = "SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    await expect.poll(() => first.query(waiting), { timeout: 10_000 }).toEqual([]);
    await appending.goOn(0);
    expect(appending.fates["commit-absent"] + appending.fates["commit-whole"]).toBeGreaterThan(0);
  });

  it("hands over to its replica: no node keeps a connection to the one that takes no writes", async () => {
    await using pair = await startPair();
    const { databases, first, relay, second } = pair;
    const database = databases[0]!;
    const write = () =>
      database.write("a", (statements) => statements.run("CREATE TABLE IF NOT EXISTS t (id int8)"));
    const read = () => database.read((statements) => statements.all("SELECT id FROM t"));
    await write();
    await read();
    // As where an address changes too early: it leads to a replica that is none in charge yet.
    relay.leadTo(portOf(second));
    relay.cut();
    await expect(write()).rejects.toMatchObject({ code: "store/postgres-unreachable" });
    await expect(read()).rejects.toMatchObject({ code: "store/postgres-unreachable" });
    // Connections that are there stay; new ones go to the one in charge.
    relay.leadTo(portOf(first));
    await write();
    await read();
  });
});
