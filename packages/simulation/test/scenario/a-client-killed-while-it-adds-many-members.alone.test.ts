import { limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
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
  small,
} from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

/** Every third moment by default, before and after effects in turns; all of them with SLOW=1. */
const EVERY = process.env["SLOW"] === "1" ? 1 : 3;
/** So that a few newcomers are several batches. */
const BATCH = 2;
(limits as { addsPerCommit: number }).addsPerCommit = BATCH;

// The faults that this finds: a batch that is added a second time after its commit was accepted unseen, and newcomers who
// are forgotten because their KeyPackages were claimed and not written down.
test("an admin killed around any effect of adding many: each of them is in once, and no job is left behind", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  // Whoever is away is added as well: its last-resort KeyPackage answers for ever.
  const away: string[] = [];
  for (const name of ["Dave", "Eve", "Frank"]) {
    const device = await world.join(name, { settings: small });
    away.push(device.id);
    await device.stop();
  }
  const peephole = new Peephole();
  const newcomers = [carol.id, ...away];
  const everybody: readonly SimulatedDevice[] = [alice, bob, carol];
  let id = "";

  const effects = await killAroundEachEffect({
    name: "adding many members",
    device: alice,
    tells: (point) => point % EVERY === 0,
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
      await alice.client.outbox.settled();
      await nothingLeft(peephole);
      expect(commitsIn(world, id)).toBe(1);
    },
    act: () => on(alice, id).add(newcomers),
    async check(point) {
      if (point === 0) return;
      await until(() => membersOf(alice, id).length === 6, PATIENCE_MS, "everybody is in");
      await until(() => on(carol, id)?.state === "active", PATIENCE_MS, "a newcomer has joined");
      await agree(everybody, id);
      await nothingLeft(peephole);
      // Two batches of two: a third commit would have added somebody again.
      expect(commitsIn(world, id)).toBe(1 + newcomers.length / BATCH);
      if (point % 6 === 3) await hearEachOther(everybody, id, "hello");
    },
  });
  expect(effects.filter((name) => name === "send groupCommit")).toHaveLength(newcomers.length / BATCH);
}, 300_000);
