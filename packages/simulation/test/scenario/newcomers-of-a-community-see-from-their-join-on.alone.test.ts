import { limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import {
  agree,
  commitsIn,
  flock,
  hearEachOther,
  membersOf,
  on,
  PATIENCE_MS,
  small,
} from "../support/communities.ts";
import { HeldFrames } from "../support/held-frames.ts";

/** So that a few newcomers are several batches. */
(limits as { addsPerCommit: number }).addsPerCommit = 2;

async function join(world: World, ...names: readonly string[]): Promise<SimulatedDevice[]> {
  const devices: SimulatedDevice[] = [];
  for (const name of names) devices.push(await world.join(name, { settings: small }));
  return devices;
}

/** Alice owns the flock, Bob is an admin, Carol is a member. */
async function scene(world: World) {
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  const old: readonly SimulatedDevice[] = [alice, bob, carol];
  await until(() => old.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await on(alice, id).setRole(bob.id, "admin");
  await agree(old, id);
  return { alice, bob, carol, old, id };
}

// The faults that this finds: somebody in both lists who is added twice, or who stops one of the two; and a newcomer whose
// history begins too early, or after what was said first.
test("two admins add batches of newcomers at once, some of them the same: everybody is in once, and sees from its join on", async () => {
  await using world = await World.start();
  const { alice, bob, old, id } = await scene(world);
  await on(alice, id).send({ text: "before they came" });
  await alice.client.outbox.settled();
  const newcomers = await join(world, "Dave", "Eve", "Frank", "Grace", "Heidi");
  const ids = newcomers.map((device) => device.id);
  const before = commitsIn(world, id);

  const leftOut = await Promise.all([on(alice, id).add(ids.slice(0, 3)), on(bob, id).add(ids.slice(2))]);
  expect(leftOut).toEqual([[], []]);
  const everybody = [...old, ...newcomers];
  await until(
    () => everybody.every((device) => on(device, id)?.title === "Flock"),
    PATIENCE_MS,
    "the title arrives",
  );
  await agree(everybody, id);
  expect(membersOf(alice, id)).toHaveLength(8);
  expect(commitsIn(world, id) - before).toBeLessThanOrEqual(4);
  await hearEachOther(everybody, id, "hello");
  for (const device of newcomers) expect(textsOf(device.client, id)).toHaveLength(everybody.length);
  for (const device of old) expect(textsOf(device.client, id)).toHaveLength(everybody.length + 1);
});

// The fault that this finds: the title is said in an epoch that the newcomer is not in, by somebody who does not know of it;
// and whoever added it says the old one, which counts for nothing.
test("newcomers learn the title that was changed, and not yet said, when somebody else added them", async () => {
  await using world = await World.start();
  const { alice, bob, old, id } = await scene(world);
  const newcomers = await join(world, "Dave", "Eve");
  await alice.stop();
  const link = new HeldFrames();
  await alice.start({ wrapTransport: link.wrapTransport });
  await alice.client.connection.caughtUp();
  link.keep("groupSubmit");
  await on(alice, id).setTitle("Murmuration");
  await until(() => link.keeps, PATIENCE_MS);
  expect(await on(bob, id).add(newcomers.map((device) => device.id))).toEqual([]);
  await bob.client.outbox.settled();
  link.letGo();
  const everybody = [...old, ...newcomers];
  await until(() => old.every((device) => on(device, id).title === "Murmuration"), PATIENCE_MS);
  await until(
    () => everybody.every((device) => on(device, id)?.title === "Murmuration"),
    PATIENCE_MS,
    "the title",
  );
  await agree(everybody, id);
});
