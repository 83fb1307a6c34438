import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
  requireNoneTwice,
  small,
} from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

// The faults that these find: an external commit that is made anew although the service has taken the first one, which
// then removes this very device; and a link whose join is forgotten, or used twice.
test("a member killed around any effect of entering anew: it is in with one leaf, and hears and is heard", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  const peephole = new Peephole();
  // The first time it also tells others which epoch it is in, over new sessions.
  await on(carol, id).community.heal();
  await carol.client.outbox.settled();

  const effects = await killAroundEachEffect({
    name: "entering a community anew",
    device: carol,
    keep: peephole.keep,
    act: () => on(carol, id).community.heal(),
    async check(point) {
      const [said, answer] = [`to Carol ${point}`, `from Carol ${point}`];
      await on(alice, id).send({ text: said });
      await until(() => countOf(carol, id, said) === 1, PATIENCE_MS, said);
      await on(carol, id).send({ text: answer });
      await until(
        () => [alice, bob].every((device) => countOf(device, id, answer) === 1),
        PATIENCE_MS,
        answer,
      );
      await agree([alice, bob, carol], id);
      await carol.client.outbox.settled();
      await nothingLeft(peephole);
      expect(peephole.count("mls_leaf")).toBe(3);
    },
  });
  expect(effects).toContain("send groupInfoRequest");
  for (const device of [alice, bob, carol]) requireNoneTwice(device, id);
}, 300_000);

test("a stranger killed around any effect of joining by link: it is in once, or the link still lets it in", async () => {
  await using world = await World.start();
  const [alice, bob] = await flock(world, "Alice", "Bob");
  const dave = await world.join("Dave", { settings: small });
  const peephole = new Peephole();
  let [id, url] = ["", ""];
  let finished = 0;

  const effects = await killAroundEachEffect({
    name: "joining by link",
    device: dave,
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
      url = (await group.community.createLink({ maxUses: 1 })).url!;
    },
    act: () => dave.client.conversations.join(url),
    async check(point) {
      if (dave.client.conversations.get(id)?.state === "active") finished++;
      await dave.client.conversations.join(url);
      await until(() => on(dave, id)?.state === "active", PATIENCE_MS);
      await agree([alice, bob, dave], id);
      const text = `from Dave ${point}`;
      await on(dave, id).send({ text });
      await until(() => [alice, bob].every((device) => countOf(device, id, text) === 1), PATIENCE_MS, text);
      await dave.client.outbox.settled();
      await nothingLeft(peephole);
    },
  });
  expect(effects).toContain("send groupCommit");
  expect(finished).toBeGreaterThan(effects.length);
}, 300_000);
