import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import {
  agree,
  flock,
  hearEachOther,
  membersOf,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
} from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

/** Every third moment by default, before and after effects in turns; all of them with SLOW=1. */
const EVERY = process.env["SLOW"] === "1" ? 1 : 3;

// The fault that this finds: a leave that is proposed only when it is asked for, or when the log goes on. Whoever dies
// between writing it down and handing the proposal in stays a member of a group in which nothing happens.
test("a member killed around any effect of leaving: once its own device says that it left, it is out for everybody", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const carolId = carol.id;
  const { id } = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carolId] });
  await until(() => on(carol, id)?.title === "Flock" && on(bob, id)?.title === "Flock");
  const peephole = new Peephole();
  let left = 0;

  const effects = await killAroundEachEffect({
    name: "leaving a community",
    device: carol,
    tells: (point) => point % EVERY === 0,
    keep: peephole.keep,
    async prepare(point) {
      if (on(carol, id).state === "active") return;
      expect(await on(alice, id).add([carolId])).toEqual([]);
      await until(() => on(carol, id).state === "active" && membersOf(carol, id).length === 3, PATIENCE_MS);
      await agree([alice, bob, carol], id, `before point ${point}`);
      await carol.client.outbox.settled();
    },
    act: () => on(carol, id).leave(),
    async check(point) {
      if (on(carol, id).state === "active") {
        expect(point, "only the first effect is before the leave").toBe(0);
        return;
      }
      left += point >= 0 ? 1 : 0;
      expect(on(carol, id).state).toBe("left");
      await until(
        () => [alice, bob].every((device) => membersOf(device, id).length === 2),
        PATIENCE_MS,
        "out for everybody",
      );
      await agree([alice, bob], id);
      await nothingLeft(peephole);
    },
  });
  expect(effects).toContain("send groupPropose");
  // All but the one that was killed before it had written anything down.
  expect(left).toBe(Math.ceil((effects.length * 2) / EVERY) - 1);
  await hearEachOther([alice, bob], id, "without her");
}, 300_000);
