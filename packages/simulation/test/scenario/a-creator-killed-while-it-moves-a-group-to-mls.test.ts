import { expect, test } from "vitest";
import { World } from "../../src/index.ts";
import { on } from "../support/communities.ts";
import { killAroundEachEffect, swallow } from "../support/crashes.ts";
import { killable } from "../support/moves.ts";

const EVERY = process.env["SLOW"] === "1" ? 1 : 19;

// The faults that this finds: a step that is not taken up again after a restart, or that is taken twice and leaves two
// groups, two switches or a message said twice behind.
test("a creator killed around any effect of moving its group: the move ends, and all is there once, in order", async () => {
  await using world = await World.start();
  const story = await killable(world);
  const { alice, bob, carol } = story;

  const effects = await killAroundEachEffect({
    name: "moving a group to MLS",
    device: alice,
    tells: (point) => point % EVERY === Math.floor(point / EVERY) % EVERY,
    prepare: story.begin,
    async act() {
      const { id, talk } = story;
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
    done: () => on(alice, story.id)?.migration?.state === "mls",
    async check() {
      if (on(alice, story.id)?.migration === undefined) await on(alice, story.id).migrate("start");
      await story.talk.say(alice, "after");
      await story.ended();
    },
  });
  expect(effects.length).toBeGreaterThan(20);
}, 900_000);
