import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import {
  agree,
  flock,
  hearEachOther,
  logOf,
  membersOf,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
  requireNoneTwice,
} from "../support/communities.ts";
import { HeldFrames } from "../support/held-frames.ts";

/** Alice owns the flock, Bob and Carol are admins, Dave is a member. */
async function scene(world: World) {
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const members = [bob.id, carol.id, dave.id];
  const { id } = await alice.client.conversations.createGroup({ title: "Flock", members });
  const everybody: readonly SimulatedDevice[] = [alice, bob, carol, dave];
  await until(() => everybody.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  for (const admin of [bob, carol]) await on(alice, id).setRole(admin.id, "admin");
  await agree(everybody, id);
  await Promise.all(everybody.map((device) => device.client.outbox.settled()));
  /** Looks into the database of a device from here on. */
  const lookInto = async (device: SimulatedDevice) => {
    const peephole = new Peephole();
    await device.stop();
    await device.start({ wrapStorage: peephole.keep });
    await device.client.connection.caughtUp();
    return peephole;
  };
  return { alice, bob, carol, dave, everybody, id, lookInto };
}

// The fault that this finds: the removal that lost stays written down, and is done when its author is a member again.
test("two admins remove each other at the same moment: the log decides, and nothing of the other removal is left", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, lookInto } = await scene(world);
  const peepholes = [await lookInto(bob), await lookInto(carol)];
  const [bobId, carolId] = [bob.id, carol.id];

  const outcomes = await Promise.allSettled([on(bob, id).remove(carolId), on(carol, id).remove(bobId)]);
  expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
  const [winner, loser] = outcomes[0]!.status === "fulfilled" ? [bob, carol] : [carol, bob];
  await until(() => on(loser, id).state === "removed", PATIENCE_MS);
  await agree([alice, winner, dave], id);
  expect(membersOf(winner, id)).toHaveLength(3);
  for (const peephole of peepholes) await nothingLeft(peephole);
  await hearEachOther([alice, winner, dave], id, "without the other");

  expect(await on(alice, id).add([loser.id])).toEqual([]);
  await until(() => on(loser, id).state === "active", PATIENCE_MS);
  await on(alice, id).setRole(loser.id, "admin");
  await loser.stop();
  await loser.start();
  await loser.client.connection.caughtUp();
  await hearEachOther([alice, bob, carol, dave], id, "together again");
  await agree([alice, bob, carol, dave], id);
  expect(membersOf(alice, id)).toHaveLength(4);
});

test("an admin is removed while it commits: its commit is there for everybody, or for nobody", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, lookInto } = await scene(world);
  const peephole = await lookInto(bob);
  const bobId = bob.id;
  const before = on(dave, id).expireAfterSeconds;

  const [, committed] = await Promise.allSettled([on(alice, id).remove(bobId), on(bob, id).setExpiry(3600)]);
  await until(() => on(bob, id).state === "removed", PATIENCE_MS);
  await agree([alice, carol, dave], id);
  expect(membersOf(alice, id)).toHaveLength(3);
  expect(on(dave, id).expireAfterSeconds).toBe(committed!.status === "fulfilled" ? 3600 : before);
  await nothingLeft(peephole);
  await hearEachOther([alice, carol, dave], id, "without Bob");
});

// The fault that these find: messages that wait for ever, or are shown as sent although nobody can read them.
test("a member is removed with messages in its outbox: they fail for it to see, and nobody gets them", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, lookInto } = await scene(world);
  const peephole = await lookInto(dave);
  const daveId = dave.id;
  await dave.client.connection.stop();
  const texts = ["too late 1", "too late 2", "too late 3"];
  for (const text of texts) await on(dave, id).send({ text });
  await on(alice, id).remove(daveId);
  dave.client.connection.start();
  await until(() => on(dave, id).state === "removed", PATIENCE_MS);
  await dave.client.outbox.settled();
  const lines = on(dave, id)
    .history({ limit: 100 })
    .flatMap((line) => (line.kind === "message" ? [line] : []));
  expect(lines.map(({ text, sendState }) => `${text}: ${sendState}`)).toEqual(
    texts.map((text) => `${text}: failed`),
  );
  await nothingLeft(peephole);
  await hearEachOther([alice, bob, carol], id, "without Dave");
  for (const device of [alice, bob, carol])
    expect(textsOf(device.client, id).filter((text) => text.startsWith("too late"))).toEqual([]);
});

test("a member is removed while a message of its own is on the way: it fails, and nobody gets it", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id } = await scene(world);
  const daveId = dave.id;
  const [link, peephole] = [new HeldFrames(), new Peephole()];
  await dave.stop();
  await dave.start({ wrapTransport: link.wrapTransport, wrapStorage: peephole.keep });
  await dave.client.connection.caughtUp();
  link.keep("groupSubmit");
  await on(dave, id).send({ text: "too late" });
  await until(() => link.keeps, PATIENCE_MS);
  await on(alice, id).remove(daveId);
  await until(() => on(dave, id).state === "removed", PATIENCE_MS);
  const [line] = on(dave, id)
    .history({ limit: 100 })
    .filter((shown) => shown.kind === "message");
  expect(line).toMatchObject({ text: "too late", sendState: "failed" });
  link.letGo();
  await dave.client.outbox.settled();
  await nothingLeft(peephole);
  await hearEachOther([alice, bob, carol], id, "without Dave");
  for (const device of [alice, bob, carol]) expect(textsOf(device.client, id)).not.toContain("too late");
  expect(on(dave, id).message({ author: daveId, messageId: line!.messageId })).toMatchObject({
    sendState: "failed",
  });
});

test("a member is removed while it talks: what was accepted is once in every history, and what failed is in no other", async () => {
  await using world = await World.start();
  const { alice, bob, carol, dave, id, lookInto } = await scene(world);
  const peephole = await lookInto(dave);
  const daveId = dave.id;
  const talking = (async () => {
    for (let n = 0; on(dave, id).state === "active" && n < 500; n++) {
      await on(dave, id)
        .send({ text: `Dave ${n}` })
        .catch(() => undefined);
      await delay(2);
    }
  })();
  await until(() => textsOf(alice.client, id).length > 5, PATIENCE_MS);
  await on(alice, id).remove(daveId);
  await talking;
  await until(() => on(dave, id).state === "removed", PATIENCE_MS);
  await dave.client.outbox.settled();
  await nothingLeft(peephole);
  const lines = on(dave, id)
    .history({ limit: 10_000 })
    .flatMap((line) => (line.kind === "message" ? [line] : []));
  const of = (state: string) => lines.filter(({ sendState }) => sendState === state).map(({ text }) => text);
  expect(of("waiting")).toEqual([]);
  await hearEachOther([alice, bob, carol], id, "without Dave");
  for (const device of [alice, bob, carol]) {
    const heard = textsOf(device.client, id).filter((text) => text.startsWith("Dave"));
    expect(heard).toEqual(of("accepted"));
    requireNoneTwice(device, id);
  }
  expect(logOf(world, id).filter(({ kind }) => kind === "void")).toEqual([]);
});
