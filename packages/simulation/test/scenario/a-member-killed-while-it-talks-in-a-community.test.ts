import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import {
  countOf,
  flock,
  nothingLeft,
  on,
  PATIENCE_MS,
  Peephole,
  requireNoneTwice,
} from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

// The fault that this finds: a message that is encrypted anew after a crash although the service may have it, or one
// that is taken out of the outbox before the service has said so.
test("a sender killed around any effect of sending: what it wrote down is once in every history", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"));
  const peephole = new Peephole();

  const effects = await killAroundEachEffect({
    name: "sending to a community",
    device: alice,
    keep: peephole.keep,
    act: (point) => on(alice, id).send({ text: `point ${point}` }),
    async check(point) {
      const text = `point ${point}`;
      await alice.client.outbox.settled();
      const kept = countOf(alice, id, text);
      expect(kept).toBe(point === 0 ? 0 : 1);
      await until(() => [bob, carol].every((device) => countOf(device, id, text) >= kept), PATIENCE_MS);
      await nothingLeft(peephole);
      for (const device of [alice, bob, carol]) requireNoneTwice(device, id);
    },
  });
  expect(effects).toContain("send groupSubmit");
}, 300_000);

// The fault that this finds: a cursor that is written in another transaction than what the entries bring.
test("a member killed around any effect of receiving: each message is once in its history, each commit merged once", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"));
  const peephole = new Peephole();
  const said = (point: number) => [`before ${point}`, `after ${point}`];
  const expiryOf = (point: number) => 1000 + point;
  const noticesOf = (point: number) =>
    on(bob, id)
      .history({ limit: 10_000 })
      .filter(
        (line) =>
          line.kind === "notice" &&
          line.notice.code === "conversation/expiry-changed" &&
          line.notice.seconds === expiryOf(point),
      );

  const effects = await killAroundEachEffect({
    name: "receiving a message, a commit and a message",
    device: bob,
    keep: peephole.keep,
    async act(point) {
      const [before, after] = said(point);
      await on(alice, id).send({ text: before! });
      await alice.client.outbox.settled();
      await on(alice, id).setExpiry(expiryOf(point));
      await on(alice, id).send({ text: after! });
      await alice.client.outbox.settled();
    },
    done: (point) =>
      countOf(bob, id, `after ${point}`) > 0 && on(bob, id).expireAfterSeconds === expiryOf(point),
    async check(point) {
      await until(() => said(point).every((text) => countOf(bob, id, text) > 0), PATIENCE_MS);
      expect(on(bob, id).expireAfterSeconds).toBe(expiryOf(point));
      expect(noticesOf(point)).toHaveLength(1);
      requireNoneTwice(bob, id);
      await nothingLeft(peephole);
      await on(bob, id).send({ text: `heard ${point}` });
      await until(
        () => countOf(carol, id, `heard ${point}`) === 1,
        PATIENCE_MS,
        "is in the epoch of the others",
      );
    },
  });
  expect(effects).toContain("send groupAcknowledge");
}, 300_000);
