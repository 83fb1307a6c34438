import { expect, test } from "vitest";
import {
  CrashPlan,
  introduce,
  Killed,
  type SimulatedDevice,
  textsOf,
  until,
  World,
} from "../../src/index.ts";

const swallow = (error: unknown) => {
  if (!(error instanceof Killed)) throw error;
};
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function underPlan(device: SimulatedDevice): Promise<CrashPlan> {
  const plan = new CrashPlan();
  await device.start({
    wrapStorage: plan.wrapStorage,
    wrapTransport: plan.wrapTransport,
    onFailure: swallow,
  });
  await device.client.connection.caughtUp();
  await device.client.outbox.settled();
  await pause(100);
  return plan;
}

test("an owner killed around any effect of a removal: it took place for all or for none, and everybody can go on", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  await introduce(alice, bob, carol);
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, carol.id] });
  const on = (device: SimulatedDevice) => device.client.conversations.get(group.id)!;
  const has = (device: SimulatedDevice) =>
    on(device)
      .members()
      .some((member) => member.accountId === carol.id);
  await until(() => [bob, carol].every((device) => device.client.conversations.get(group.id) !== undefined));
  await alice.client.outbox.settled();

  await alice.stop();
  const dry = await underPlan(alice);
  dry.record();
  await on(alice).remove(carol.id);
  const effects = dry.effects.length;
  console.log(`crash points of a removal: ${effects * 2} (${dry.effects.join(", ")})`);
  expect(dry.effects).toContain("PUT /v1/groups");
  await until(() => on(carol).state === "removed");

  let tookPlace = 0;
  for (let point = 0; point < effects * 2; point++) {
    if (!has(alice)) {
      await on(alice).add([carol.id]);
      await until(() => on(carol).state === "active" && has(bob) && on(carol).memberCount === 3);
      await alice.client.outbox.settled();
    }
    await alice.stop().catch(swallow);
    const plan = await underPlan(alice);
    plan.arm(point >> 1, point % 2 === 0 ? "before" : "after");
    await on(alice)
      .remove(carol.id)
      .catch((error: unknown) => {
        if (!plan.dead) throw error;
      });
    await alice.stop().catch(swallow);

    await alice.start({ wrapStorage: (storage) => storage, wrapTransport: (transport) => transport });
    await alice.client.connection.caughtUp();
    if (point > 0) await until(() => !has(alice), 10_000, `point ${point}`);
    await alice.client.outbox.settled();
    await until(
      () => has(bob) === has(alice) && (on(carol).state === "active") === has(alice),
      10_000,
      `point ${point}`,
    );
    tookPlace += has(alice) ? 0 : 1;
    const text = `after point ${point}`;
    await on(bob).send({ text });
    await until(() => textsOf(alice.client, group.id).includes(text), 10_000, text);
    const carolHas = () => textsOf(carol.client, group.id).includes(text);
    if (has(alice)) await until(carolHas, 10_000, text);
    else expect(carolHas(), text).toBe(false);
  }
  expect(tookPlace).toBe(effects * 2 - 1);
}, 240_000);
