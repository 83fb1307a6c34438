import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { startFaultProxy } from "../../src/fault-proxy.ts";
import { testLimits, until, World } from "../../src/index.ts";
import { newcomer } from "../support/flock.ts";

const INTERVAL_MS = 300;

test("a client to which nobody says anything keeps its three connections, and leaves a service that is silent", async () => {
  const limits = { ...testLimits, pingIntervalMs: INTERVAL_MS, silenceTimeoutMs: 2 * INTERVAL_MS };
  await using world = await World.start({ service: { limits } });
  await using proxy = await startFaultProxy({ target: Number(new URL(world.origin).port) });
  let connections = 0;
  const alice = await newcomer(world, "Alice", {
    origin: proxy.origin,
    wrapTransport: (transport) =>
      Object.assign(Object.create(transport) as typeof transport, {
        connect: (...asked: Parameters<typeof transport.connect>) => {
          connections++;
          return transport.connect(...asked);
        },
      }),
  });
  await alice.client.conversations.createGroup({ title: "Flock", members: [], protocol: "mls" });
  await alice.client.outbox.settled();
  expect(connections).toBe(3);
  await delay(10 * INTERVAL_MS);
  expect(connections).toBe(3);
  expect(alice.client.connection.state).toBe("connected");

  proxy.halfOpen("to-client", 1);
  await until(() => alice.client.connection.state !== "connected", 20 * INTERVAL_MS);
});
