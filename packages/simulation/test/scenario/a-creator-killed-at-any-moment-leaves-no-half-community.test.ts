import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
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

// The fault that this finds: the conversation written down in another transaction than the group it stands for. A
// creator that dies between the two has a conversation for ever in which nothing can be said.
test("a creator killed around any effect of creating: the community comes into being with everybody, or not at all", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const peephole = new Peephole();
  const named = (device: SimulatedDevice, point: number) =>
    device.client.conversations.list().filter(({ title }) => title === `Flock ${point}`);
  let created = 0;

  const effects = await killAroundEachEffect({
    name: "creating a community",
    device: alice,
    tells: (point) => point % EVERY === 0,
    keep: peephole.keep,
    act: (point) =>
      alice.client.conversations.createGroup({ title: `Flock ${point}`, members: [bob.id, carol.id] }),
    async check(point) {
      const [group, another] = named(alice, point);
      expect(another).toBeUndefined();
      if (group === undefined) return;
      created++;
      const everybody = [alice, bob, carol];
      await until(() => everybody.every((device) => membersOf(device, group.id).length === 3), PATIENCE_MS);
      await agree(everybody, group.id);
      if (point % 6 === 3) {
        await hearEachOther(everybody, group.id, "hello");
        expect(textsOf(alice.client, group.id)).toHaveLength(3);
      }
      await nothingLeft(peephole);
    },
  });
  expect(effects).toContain("send groupCreate");
  expect(effects).toContain("send groupCommit");
  expect(effects).toContain("POST /v1/key-packages");
  // Only a creator that dies before its first transaction creates nothing.
  expect(created).toBeGreaterThan((effects.length * 1.5) / EVERY);
  for (const device of [bob, carol])
    expect(device.client.conversations.list().filter(({ kind }) => kind === "group")).toHaveLength(created);
  expect(on(alice, named(alice, -1)[0]!.id).state).toBe("active");
}, 300_000);
