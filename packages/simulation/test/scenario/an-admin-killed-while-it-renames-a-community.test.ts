import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import { agree, commitsIn, flock, nothingLeft, on, PATIENCE_MS, Peephole } from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

// The fault that this finds: the commit that changes the title holds its hash alone. Whoever dies after it and before the
// message that says the title leaves a group whose title nobody knows, and no newcomer ever learns one.
test("an admin killed around any effect of renaming: everybody has the new title, or the old one and no commit", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  const peephole = new Peephole();
  let before = 0;
  let title = "Flock";

  const effects = await killAroundEachEffect({
    name: "renaming a community",
    device: alice,
    keep: peephole.keep,
    async prepare() {
      before = commitsIn(world, id);
    },
    act: (point) => on(alice, id).setTitle(`Title ${point}`),
    async check(point) {
      await nothingLeft(peephole);
      if (commitsIn(world, id) > before) title = `Title ${point}`;
      expect(commitsIn(world, id) - before).toBe(title === `Title ${point}` ? 1 : 0);
      await until(
        () => [alice, bob, carol].every((device) => on(device, id).title === title),
        PATIENCE_MS,
        `everybody has ${title}`,
      );
    },
  });
  expect(effects).toContain("send groupCommit");
  expect(effects).toContain("send groupSubmit");
  const [dave] = await flock(world, "Dave");
  expect(await on(alice, id).add([dave.id])).toEqual([]);
  await agree([alice, bob, carol], id);
  await until(() => on(dave, id)?.title === title, PATIENCE_MS, "a newcomer learns the title");
}, 300_000);
