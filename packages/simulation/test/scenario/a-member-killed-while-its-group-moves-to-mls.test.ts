import { expect, test } from "vitest";
import { World } from "../../src/index.ts";
import { countOf, on } from "../support/communities.ts";
import { killAroundEachEffect, swallow } from "../support/crashes.ts";
import { killable } from "../support/moves.ts";

const EVERY = process.env["SLOW"] === "1" ? 1 : 17;

// The faults that this finds: a commit that is taken without the secret that it needs, and a switch of which a part was
// written down and another was not.
test("a member killed around any effect of following its group to MLS: it is there, and has all of it once, in order", async () => {
  await using world = await World.start();
  const story = await killable(world);
  const { alice, bob, carol } = story;

  const effects = await killAroundEachEffect({
    name: "following a group to MLS",
    device: carol,
    tells: (point) => point % EVERY === Math.floor(point / EVERY) % EVERY,
    prepare: story.begin,
    async act() {
      const { id, talk } = story;
      await on(alice, id).migrate("start");
      await talk.say(bob, "meanwhile");
      await talk.say(carol, "member").catch(swallow);
      await talk.say(alice, "meanwhile");
    },
    done: () =>
      on(carol, story.id)?.protocol === "mls" && countOf(carol, story.id, story.talk.all.at(-1)!) > 0,
    async check() {
      await story.talk.say(bob, "after");
      await story.talk.say(carol, "after");
      // The creator waits for a device that said nothing before it died, unless it says so now.
      await story.ended();
    },
  });
  expect(effects.length).toBeGreaterThan(15);
}, 900_000);
