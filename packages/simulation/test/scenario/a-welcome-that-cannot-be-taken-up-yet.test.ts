import { UnavailableError } from "@murmuration/base";
import type { Conversation, Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, newcomer } from "../support/flock.ts";

/** More than a client waits at most between two tries. */
const SOON_MS = 15_000;

test("whoever could not read the tree while an engine was away is in seconds after it is back, on the same connection", async () => {
  await using world = await World.start();
  let isAway = false;
  let refused = 0;
  const withoutTrees = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: async (request: Parameters<Transport["request"]>[0]) => {
        if (!isAway || !request.path.includes("tree")) return transport.request(request);
        refused++;
        throw new UnavailableError("transport/unreachable");
      },
    });
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol", { wrapTransport: withoutTrees }),
  ];
  const flock = await flockOf(alice, bob, carol);
  isAway = true;
  const second = await alice.client.conversations.createGroup({
    title: "Second",
    members: [bob.id, carol.id],
    protocol: "mls",
  });
  await until(() => refused > 0);
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  expect(inGroup(carol, second.id)?.title).not.toBe("Second");
  isAway = false;
  await until(() => inGroup(carol, second.id)?.title === "Second", SOON_MS, "Carol is in");
  await second.send({ text: "welcome" });
  await allShow([alice, bob, carol], second.id, "welcome");
  await flock.send({ text: "and here" });
  await allShow([alice, bob, carol], flock.id, "and here");
});

test("a Welcome whose tree the service does not give keeps no other one waiting, nor the group that was entered closed", async () => {
  await using world = await World.start();
  let mayPass = Number.POSITIVE_INFINITY;
  const fewTrees = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: async (request: Parameters<Transport["request"]>[0]) => {
        if (!request.path.includes("tree") || mayPass-- > 0) return transport.request(request);
        throw new UnavailableError("transport/unreachable");
      },
    });
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol", { wrapTransport: fewTrees }),
  ];
  await flockOf(alice, bob, carol);
  const members = [bob.id, carol.id];
  await carol.stop();
  const groups: Conversation[] = [];
  for (const title of ["Second", "Third"]) {
    groups.push(await alice.client.conversations.createGroup({ title, members, protocol: "mls" }));
  }
  mayPass = 1;
  await carol.start();
  const entered = () => groups.filter(({ id }) => inGroup(carol, id)?.state === "active");
  await until(() => entered().length === 1, SOON_MS, "Carol is in one of them");
  const [first] = entered();
  await first!.send({ text: "welcome" });
  await allShow([alice, bob, carol], first!.id, "welcome");
  mayPass = Number.POSITIVE_INFINITY;
  await until(() => entered().length === 2, SOON_MS, "Carol is in both");
  for (const group of groups) await group.send({ text: "to both" });
  for (const { id } of groups) await allShow([alice, bob, carol], id, "to both");
});
