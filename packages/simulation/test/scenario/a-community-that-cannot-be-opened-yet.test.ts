import { UnavailableError } from "@murmuration/base";
import type { Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, newcomer } from "../support/flock.ts";

/** More than a client waits at most between two tries. */
const SOON_MS = 15_000;

/** A transport that answers a client's requests to open a group, while told to, as a service does whose engine is away. */
class Overloaded {
  isAway = false;
  refused = 0;

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: async (...[handlers, timeoutMs]: Parameters<Transport["connect"]>) => {
        const socket = await transport.connect(handlers, timeoutMs);
        return Object.assign(Object.create(socket) as typeof socket, {
          send: (frame: Parameters<typeof socket.send>[0]) => {
            if (!this.isAway || frame.body.kind !== "groupAccess") {
              socket.send(frame);
              return;
            }
            this.refused++;
            const rejection = {
              kind: "rejection",
              code: "service/overloaded",
              action: "retry-later",
              retryAfterMs: 200,
            } as const;
            queueMicrotask(() => handlers.frame({ requestId: frame.requestId, body: rejection }));
          },
        });
      },
    });
}

/** Carol has the service of the story between her and the real one. */
const threeOf = async (world: World, service: Overloaded) =>
  [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol", service),
  ] as const;

// The faults that these find: a group that stays closed until the connection happens to break, because opening it was
// refused once for a moment.
test("whoever took a Welcome up and could not open the group is heard there soon, on the same connection", async () => {
  await using world = await World.start();
  const service = new Overloaded();
  const [alice, bob, carol] = await threeOf(world, service);
  await flockOf(alice, bob, carol);
  service.isAway = true;
  const second = await alice.client.conversations.createGroup({
    title: "Second",
    members: [bob.id, carol.id],
    protocol: "mls",
  });
  await until(() => service.refused > 1, SOON_MS, "she has tried twice");
  service.isAway = false;
  await second.send({ text: "welcome" });
  await allShow([alice, bob, carol], second.id, "welcome");
  await inGroup(carol, second.id)!.send({ text: "thank you" });
  await allShow([alice, bob, carol], second.id, "thank you");
});

test("whoever comes back and could not open its groups has them soon, on the same connection", async () => {
  await using world = await World.start();
  const service = new Overloaded();
  const [alice, bob, carol] = await threeOf(world, service);
  const flock = await flockOf(alice, bob, carol);
  await carol.stop();
  await flock.send({ text: "while she was away" });
  service.isAway = true;
  await carol.start();
  await until(() => service.refused > 1, SOON_MS, "she has tried twice");
  service.isAway = false;
  await allShow([alice, bob, carol], flock.id, "while she was away");
});

test("a connection for communities that cannot be made is tried again, and the others stand meanwhile", async () => {
  await using world = await World.start();
  let sockets = 0;
  let failed = 0;
  const withoutThird = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: (...given: Parameters<Transport["connect"]>) => {
        sockets++;
        if (sockets <= 2 || failed >= 2) return transport.connect(...given);
        failed++;
        return Promise.reject(new UnavailableError("transport/unreachable"));
      },
    });
  const [alice, bob] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob", { wrapTransport: withoutThird }),
  ];
  const flock = await flockOf(alice, bob);
  await flock.send({ text: "hello" });
  await allShow([alice, bob], flock.id, "hello");
  expect(failed).toBe(2);
  // The device's and the anonymous one were opened once, and so was the third in the end.
  expect(sockets).toBe(5);
});
