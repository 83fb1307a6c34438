import { expect, test } from "vitest";
import { textsOf, until, World } from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  hearEachOther,
  on,
  PATIENCE_MS,
  requireNoneTwice,
} from "../support/communities.ts";

// The fault that both find: the log that is open on the connection is the old leaf's, and is not opened anew.
test("whoever was removed and is added again, on one and the same connection, hears and is heard", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const group = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carol.id] });
  const { id } = group;
  const everybody = [alice, bob, carol];
  await until(() => everybody.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  for (const round of ["once", "twice"]) {
    await group.remove(carol.id);
    await until(() => on(carol, id).state === "removed", PATIENCE_MS);
    await group.send({ text: `not for Carol, ${round}` });
    expect(await group.add([carol.id])).toEqual([]);
    await until(() => on(carol, id).state === "active", PATIENCE_MS);
    await hearEachOther(everybody, id, round);
    await agree(everybody, id);
    expect(countOf(carol, id, `not for Carol, ${round}`)).toBe(0);
  }
});

test("a member that enters anew while everybody talks misses nothing that is said after it is in", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  const everybody = [alice, bob, carol];
  await until(() => everybody.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  let talking = true;
  const talk = async (device: typeof alice) => {
    for (let n = 0; talking; n++) {
      await on(device, id).send({ text: `${device.path.slice(-4, -3)} says ${n}` });
      await device.client.outbox.settled();
    }
  };
  const talks = [talk(alice), talk(bob)];
  for (let round = 0; round < 4; round++) {
    await on(carol, id).community.heal();
    const text = `heard in round ${round}`;
    await on(alice, id).send({ text });
    await until(() => countOf(carol, id, text) === 1, PATIENCE_MS, text);
    await on(carol, id).send({ text: `Carol in round ${round}` });
    await until(
      () => countOf(bob, id, `Carol in round ${round}`) === 1,
      PATIENCE_MS,
      `Carol is heard in round ${round}`,
    );
  }
  talking = false;
  await Promise.all(talks);
  await hearEachOther(everybody, id, "in the end");
  for (const device of everybody) requireNoneTwice(device, id);
  expect(textsOf(carol.client, id).length).toBeGreaterThan(8);
});
