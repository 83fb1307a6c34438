import { expect, test } from "vitest";
import { World } from "../../src/index.ts";
import { countOf, on } from "../support/communities.ts";
import { killAroundEachEffect, swallow } from "../support/crashes.ts";
import { movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

const EVERY = process.env["SLOW"] === "1" ? 1 : 17;

// The faults that this finds: a commit that is taken without the secret that it needs, and a switch of which a part was
// written down and another was not.
test("a member killed around any effect of following its group to MLS: it is there, and has all of it once, in order", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await movers(world, ["Alice", "Bob", "Carol"]);
  const everybody = [alice, bob, carol];
  let id = "";
  let talk = new Talk(id);

  const effects = await killAroundEachEffect({
    name: "following a group to MLS",
    device: carol,
    tells: (point) => point % EVERY === Math.floor(point / EVERY) % EVERY,
    async prepare(point) {
      id = (await pairwiseGroup(alice, [bob, carol], `Birds ${point}`)).id;
      talk = new Talk(id);
      for (const device of everybody) await talk.say(device, "before");
      await talk.heardBy(everybody);
    },
    async act() {
      await on(alice, id).migrate("start");
      await talk.say(bob, "meanwhile");
      await talk.say(carol, "member").catch(swallow);
      await talk.say(alice, "meanwhile");
    },
    done: () => on(carol, id)?.protocol === "mls" && countOf(carol, id, talk.all.at(-1)!) > 0,
    async check() {
      await talk.say(bob, "after");
      await talk.say(carol, "after");
      // The creator waits for a device that said nothing before it died, unless it says so now.
      await requireMoved(everybody, id, "all are in");
      await talk.heardBy(everybody);
      await untilIn(everybody, id, () => on(alice, id).migration?.state === "mls", "the record is done");
    },
  });
  expect(effects.length).toBeGreaterThan(15);
}, 900_000);
