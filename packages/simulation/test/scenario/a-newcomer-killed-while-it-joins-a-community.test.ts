import { expect, test } from "vitest";
import { textsOf, until, World } from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  membersOf,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
} from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

// The faults that this finds: a KeyPackage that is deleted in another transaction than the one that writes the group
// down, and a Welcome that is taken up a second time over a group that has gone on since.
test("a newcomer killed around any effect of joining by Welcome: it is in, and has everything said since, once", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const carolId = carol.id;
  const peephole = new Peephole();
  let id = "";

  const effects = await killAroundEachEffect({
    name: "joining by Welcome",
    device: carol,
    keep: peephole.keep,
    async prepare(point) {
      const title = `Flock ${point}`;
      const group = await alice.client.conversations.createGroup({
        title,
        members: [bob.id],
        protocol: "mls",
      });
      id = group.id;
      await until(() => on(bob, id)?.title === title, PATIENCE_MS);
    },
    async act() {
      expect(await on(alice, id).add([carolId])).toEqual([]);
      await on(alice, id).send({ text: "welcome" });
      await alice.client.outbox.settled();
    },
    done: () =>
      carol.client.conversations.get(id) !== undefined &&
      countOf(carol, id, "welcome") === 1 &&
      Object.keys(peephole.unfinished()).length === 0,
    async check() {
      await until(() => on(carol, id)?.state === "active" && countOf(carol, id, "welcome") > 0, PATIENCE_MS);
      await agree([alice, bob, carol], id);
      expect(membersOf(carol, id)).toHaveLength(3);
      await on(carol, id).send({ text: "thank you" });
      const lines = ["thank you", "welcome"];
      for (const device of [alice, bob, carol]) {
        await until(() => textsOf(device.client, id).length >= 2, PATIENCE_MS);
        expect([...textsOf(device.client, id)].sort()).toEqual(lines);
      }
      await carol.client.outbox.settled();
      await nothingLeft(peephole);
    },
  });
  expect(effects).toContain("GET /v1/trees");
  expect(effects).toContain("send groupAccess");
}, 300_000);
