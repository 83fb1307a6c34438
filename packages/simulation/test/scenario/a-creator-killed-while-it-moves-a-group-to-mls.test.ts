import { expect, test } from "vitest";
import { World } from "../../src/index.ts";
import { on } from "../support/communities.ts";
import { killAroundEachEffect, swallow } from "../support/crashes.ts";
import { movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

const EVERY = process.env["SLOW"] === "1" ? 1 : 19;

// The faults that this finds: a step that is not taken up again after a restart, or that is taken twice and leaves two
// groups, two switches or a message said twice behind.
test("a creator killed around any effect of moving its group: the move ends, and all is there once, in order", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const everybody = [alice, bob, carol];
  let id = "";
  let talk = new Talk(id);

  const effects = await killAroundEachEffect({
    name: "moving a group to MLS",
    device: alice,
    tells: (point) => point % EVERY === Math.floor(point / EVERY) % EVERY,
    async prepare(point) {
      id = (await pairwiseGroup(alice, [bob, carol], `Birds ${point}`)).id;
      talk = new Talk(id);
      for (const device of everybody) await talk.say(device, "before");
      await talk.heardBy(everybody);
    },
    async act() {
      await talk.say(bob, "meanwhile");
      const started = on(alice, id).migrate("start");
      const said = (async () => {
        await talk.say(alice, "creator");
        await talk.say(alice, "creator");
      })();
      await talk.say(carol, "meanwhile");
      await Promise.all([started.catch(swallow), said.catch(swallow)]);
      await talk.say(bob, "meanwhile");
    },
    done: () => on(alice, id)?.migration?.state === "mls",
    async check() {
      if (on(alice, id)?.migration === undefined) await on(alice, id).migrate("start");
      await talk.say(alice, "after");
      await requireMoved(everybody, id, "all are in");
      await talk.heardBy(everybody);
      await untilIn(everybody, id, () => on(alice, id).migration?.state === "mls", "the record is done");
    },
  });
  expect(effects.length).toBeGreaterThan(20);
}, 900_000);
