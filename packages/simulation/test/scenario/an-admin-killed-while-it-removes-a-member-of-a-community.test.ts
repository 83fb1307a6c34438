import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import {
  agree,
  commitsIn,
  flock,
  hearEachOther,
  membersOf,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
} from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

// The fault that this finds: a removal that is not written down before anything is committed is forgotten by a crash;
// one that is taken up without a look at the log is committed a second time.
test("an admin killed around any effect of a removal: it is done once for everybody, or was never begun", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const carolId = carol.id;
  const { id } = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carolId] });
  await until(() => on(carol, id)?.title === "Flock" && on(bob, id)?.title === "Flock");
  const peephole = new Peephole();
  let removed = 0;
  let commitsBefore = 0;

  const effects = await killAroundEachEffect({
    name: "removing a member",
    device: alice,
    keep: peephole.keep,
    async prepare(point) {
      if (on(carol, id).state !== "active") {
        expect(await on(alice, id).add([carolId])).toEqual([]);
        await until(() => on(carol, id).state === "active", PATIENCE_MS);
        await agree([alice, bob, carol], id, `before point ${point}`);
        await alice.client.outbox.settled();
        await nothingLeft(peephole);
      }
      commitsBefore = commitsIn(world, id);
    },
    act: () => on(alice, id).remove(carolId),
    async check(point) {
      if (point > 0)
        await until(() => membersOf(alice, id).length === 2, PATIENCE_MS, "the removal is not forgotten");
      const done = membersOf(alice, id).length === 2;
      removed += done && point >= 0 ? 1 : 0;
      await agree([alice, bob], id);
      await until(() => on(carol, id).state === (done ? "removed" : "active"), PATIENCE_MS);
      await nothingLeft(peephole);
      expect(commitsIn(world, id) - commitsBefore).toBe(done ? 1 : 0);
    },
  });
  expect(effects).toContain("send groupCommit");
  // All but the one that was killed before it had written anything down.
  expect(removed).toBe(effects.length * 2 - 1);
  await hearEachOther([alice, bob], id, "without her");
}, 300_000);
