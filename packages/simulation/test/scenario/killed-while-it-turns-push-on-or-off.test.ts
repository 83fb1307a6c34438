import { DatabaseSync } from "node:sqlite";
import { expect, test } from "vitest";
import { introduce, ShiftedClock, until, World } from "../../src/index.ts";
import { PATIENCE_MS, small } from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";
import { PushServices } from "../support/push.ts";

/** How many handles the service has, of mailboxes and of leaves. */
function handlesAt(world: World): readonly number[] {
  const database = new DatabaseSync(`${world.serviceDirectory}/delivery-service.sqlite`, { readOnly: true });
  try {
    return ["mailbox_push_handles", "leaf_push_handles"].map(
      (table) => database.prepare(`SELECT count(*) AS n FROM ${table}`).get()!["n"] as number,
    );
  } finally {
    database.close();
  }
}

test("a client killed around any effect of turning push off and on ends up woken by what it was told last", async () => {
  await using push = await PushServices.start();
  const clock = new ShiftedClock();
  await using world = await World.start({ service: { pushGateway: push.config }, serviceClock: clock });
  const settings = { ...small, pushSpreadMs: 0 };
  const ann = await world.join("ann", { settings, environment: clock.environment });
  const bob = await world.join("bob", { settings, environment: clock.environment });
  await introduce(ann, bob);
  const bobs = bob.id;
  await ann.client.conversations.createGroup({ title: "choir", members: [bobs], protocol: "mls" });
  await until(() => bob.client.conversations.list().some(({ protocol }) => protocol === "mls"), PATIENCE_MS);

  let round = 0;
  const effects = await killAroundEachEffect({
    name: "turning push off and on",
    device: bob,
    async prepare() {
      round++;
      await bob.client.push.on(push.options(`before-${round}`));
      await bob.client.push.settled();
    },
    async act() {
      await bob.client.push.off();
      await bob.client.push.settled();
      await bob.client.push.on(push.options(`after-${round}`));
      await bob.client.push.settled();
    },
    done: () => bob.client.push.status.state === "on" && bob.client.push.status.waitingHandles === 0,
    async check() {
      await bob.client.push.settled();
      const isOn = bob.client.push.status.state === "on";
      expect(handlesAt(world)).toEqual(isOn ? [1, 1] : [0, 0]);
      await bob.stop();
      clock.offsetMs += 5 * 60_000;
      await ann.client.conversations.direct(bobs).send({ text: "wake up" });
      await ann.client.outbox.settled();
      // Killed before it had said that push is off, it is woken as before.
      const names = [`after-${round}`, `before-${round}`];
      if (isOn) await until(() => names.some((name) => push.woken().includes(name)), 15_000, "bob is woken");
      await bob.start();
      await bob.client.connection.caughtUp();
    },
  });
  expect(effects.filter((name) => name === "transaction").length).toBeGreaterThanOrEqual(8);
}, 300_000);
