import { join } from "node:path";
import {
  enginesAreInstalled,
  type LocalPostgres,
  type LocalRedis,
  startLocalPostgres,
  startLocalRedis,
} from "@murmuration/delivery-service/local-engines";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { ChaosNode, nodeEnvironment } from "../../src/chaos/cluster.ts";
import { type FaultProxy, startFaultProxy } from "../../src/fault-proxy.ts";
import { introduce, type SimulatedDevice, until, World } from "../../src/index.ts";
import { countOf, on } from "../support/communities.ts";

const isLeftOut = !enginesAreInstalled() && process.env["CI"] !== "true";
if (isLeftOut)
  console.log(
    "A node that is cut off is left out, PostgreSQL or Redis is not installed: npm run services -- --install",
  );

/** Shorter than a node asks before it calls itself cut off, and than a lock of a dead connection lives, with room. */
const PATIENCE_MS = 60_000;

/** The default: longer than a node waits for Redis, which it then does without. */
const settings = { requestTimeoutMs: 15_000 };

/** An engine's address that leads through a proxy. */
const through = (url: string, proxy: FaultProxy): string => {
  const parsed = new URL(url);
  parsed.port = String(proxy.port);
  return parsed.toString();
};
const originOf = ({ port }: ChaosNode): string => `http://127.0.0.1:${port}`;
const healthOf = async (node: ChaosNode) => {
  const answer = await fetch(`${originOf(node)}/health`);
  return `${answer.status} ${(await answer.text()).trim()}`;
};
const becomes = (node: ChaosNode, health: string) =>
  expect.poll(() => healthOf(node), { timeout: PATIENCE_MS, interval: 200 }).toBe(health);

// The faults that these find: a node that hangs with its clients, one that holds up the other node by the locks of a
// connection that is dead, and messages that are lost or doubled because an answer was.
describe.skipIf(isLeftOut)("a node that the network cuts off from an engine", () => {
  let postgres: LocalPostgres;
  let redis: LocalRedis;
  beforeAll(async () => {
    [postgres, redis] = await Promise.all([startLocalPostgres(), startLocalRedis()]);
  });
  afterAll(async () => {
    await Promise.all([postgres.dispose(), redis.dispose()]);
  });

  let world: World;
  let [toPostgres, toRedis]: FaultProxy[] = [];
  let [near, far]: ChaosNode[] = [];
  let [alice, bob]: SimulatedDevice[] = [];
  let group: string;
  beforeEach(async () => {
    world = await World.start();
    toPostgres = await startFaultProxy({ target: Number(new URL(postgres.url).port) });
    toRedis = await startFaultProxy({ target: Number(new URL(redis.url).port) });
    near = new ChaosNode(join(world.directory, "near.log"), nodeEnvironment(postgres.url, redis.url));
    far = new ChaosNode(
      join(world.directory, "far.log"),
      nodeEnvironment(through(postgres.url, toPostgres), through(redis.url, toRedis)),
    );
    await near.start();
    await far.start();
    alice = await world.join("Alice", { origin: originOf(near), settings });
    bob = await world.join("Bob", { origin: originOf(far), settings });
    await introduce(alice, bob);
    const members = [bob.id];
    ({ id: group } = await alice.client.conversations.createGroup({
      title: "Birds",
      members,
      protocol: "mls",
    }));
    await until(() => on(bob!, group)?.state === "active", PATIENCE_MS, "Bob is in the community");
    await talk("before");
    await heard("before");
  });
  afterEach(async () => {
    await world[Symbol.asyncDispose]();
    await Promise.all([near?.kill(), far?.kill()]);
    await Promise.all([toPostgres?.close(), toRedis?.close()]);
    expect([near?.ends, far?.ends]).toEqual([0, 0]);
  });

  /** Each says something to the other, in the community and directly. */
  async function talk(word: string): Promise<void> {
    for (const [speaker, other] of [
      [alice!, bob!],
      [bob!, alice!],
    ] as const) {
      await on(speaker, group).send({ text: `${word} in the community, ${speaker.path}` });
      await speaker.client.conversations.direct(other.id).send({ text: `${word} directly, ${speaker.path}` });
    }
  }

  const countsAt = (device: SimulatedDevice, other: SimulatedDevice, word: string) => ({
    community: countOf(device, group, `${word} in the community, ${other.path}`),
    direct: countOf(device, other.id, `${word} directly, ${other.path}`),
  });

  /** Both have it, once. */
  async function heard(word: string): Promise<void> {
    const counts = () => [countsAt(alice!, bob!, word), countsAt(bob!, alice!, word)];
    const once = { community: 1, direct: 1 };
    await expect.poll(counts, { timeout: PATIENCE_MS, interval: 50 }).toEqual([once, once]);
  }

  test("from PostgreSQL: it says so, the other goes on, and what was said on either side arrives once when it is back", async () => {
    toPostgres!.part();
    await talk("cut off");
    await becomes(far!, "503 not ready: no answer from postgresql");
    expect(await healthOf(near!)).toBe("200 ok");
    // Who is connected to the other node is answered, though the one that is cut off may hold locks.
    await alice!.client.outbox.settled({ timeoutMs: PATIENCE_MS });
    expect(toPostgres!.counts.swallowedBytes).toBeGreaterThan(0);
    toPostgres!.heal();
    await becomes(far!, "200 ok");
    await heard("cut off");
    await talk("after");
    await heard("after");
  }, 240_000);

  test("from Redis: it says so, community messages go on, and what was said directly arrives once when it is back", async () => {
    toRedis!.part();
    await talk("cut off");
    await becomes(far!, "503 not ready: no answer from redis");
    expect(await healthOf(near!)).toBe("200 ok");
    // No mailbox has a part in it; what goes through one waits in the outbox.
    const stateOf = (group: string, text: string) =>
      on(bob!, group)
        .history()
        .flatMap((line) =>
          line.kind === "message" && line.text.startsWith(text) && line.outgoing ? [line.sendState] : [],
        )
        .at(-1);
    await expect.poll(() => stateOf(group, "cut off in"), { timeout: PATIENCE_MS }).toBe("accepted");
    expect(stateOf(alice!.id, "cut off directly")).toBe("waiting");
    toRedis!.heal();
    await becomes(far!, "200 ok");
    // The other node is told now; without that it looks after half a minute.
    await expect.poll(() => countsAt(alice!, bob!, "cut off").community, { timeout: 15_000 }).toBe(1);
    await heard("cut off");
    await talk("after");
    await heard("after");
  }, 240_000);
});
