import type { ClientEvent } from "@murmuration/client-core";
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

/** For what a dead client throws. Of an error of its store the pairwise engine hands on the text only. */
const swallow = (error: unknown) => {
  if (!(error instanceof Killed) && !String(error).includes(new Killed().message)) throw error;
};

/** `loses power`: what did not wait for the disk is lost as well. */
const ENDS = ["is killed", "loses power"] as const;
type End = (typeof ENDS)[number];

/** What a device told, by the number of the event: one that was told never comes to mean another. */
class Told {
  private readonly events = new Map<number, string>();

  note({ eventId, kind, ...rest }: ClientEvent): void {
    // 0: told and not kept.
    if (eventId === 0) return;
    const what = `${kind} ${"historyId" in rest ? rest.historyId : ""} ${"change" in rest ? rest.change : ""}`;
    expect(what, `event ${eventId}`).toBe(this.events.get(eventId) ?? what);
    this.events.set(eventId, what);
  }
}

/** A device that runs under a new crash plan from here on. */
async function underPlan(device: SimulatedDevice, told: Told, end: End): Promise<CrashPlan> {
  const plan = new CrashPlan();
  if (end === "loses power") plan.losesPowerOver(device.path);
  await device.start({
    wrapStorage: plan.wrapStorage,
    wrapTransport: plan.wrapTransport,
    onFailure: swallow,
  });
  const notified = () => plan.effect("notify", () => undefined);
  device.client.events.on((event) => {
    if (event.kind === "connection") return;
    told.note(event);
    try {
      notified();
    } catch (error) {
      swallow(error);
    }
  });
  await device.client.connection.caughtUp();
  return plan;
}

/** Throws the dead client away and opens what is left of its database with a new one. */
async function revive(device: SimulatedDevice, plan: CrashPlan): Promise<void> {
  await device.stop().catch(swallow);
  plan.losePower();
  await device.start({ wrapStorage: (storage) => storage, wrapTransport: (transport) => transport });
}

const count = (device: SimulatedDevice, peerId: string, text: string) =>
  textsOf(device.client, peerId).filter((line) => line === text).length;

async function pair(
  world: World,
): Promise<{ alice: SimulatedDevice; bob: SimulatedDevice; ids: [string, string] }> {
  const alice = await world.join("Alice");
  const bob = await world.join("Bob");
  await introduce(alice, bob);
  const ids: [string, string] = [alice.id, bob.id];
  await alice.client.conversations.direct(bob.id).send({ text: "hello" });
  await until(() => textsOf(bob.client, ids[0]).length === 1);
  await bob.client.conversations.direct(alice.id).send({ text: "hello back" });
  await until(() => textsOf(alice.client, ids[1]).length === 2);
  await Promise.all([alice.client.outbox.settled(), bob.client.outbox.settled()]);
  return { alice, bob, ids };
}

/** Waits until nothing has happened for a while. */
async function quiet(plan: CrashPlan): Promise<void> {
  let before = -1;
  while (plan.effects.length !== before) {
    before = plan.effects.length;
    await new Promise((resolve) => setTimeout(resolve, 120));
  }
}

test.each(ENDS)(
  "a sender %s around any effect of sending: each message that was persisted arrives exactly once",
  async (end) => {
    const told = new Told();
    await using world = await World.start();
    const { alice, bob, ids } = await pair(world);
    const send = (text: string) => alice.client.conversations.direct(ids[1]).send({ text });

    await alice.stop();
    const dry = await underPlan(alice, told, end);
    dry.record();
    await send("dry run");
    await quiet(dry);
    const points = dry.effects.length * 2;
    console.log(`crash points of sending: ${points} (${dry.effects.join(", ")})`);
    expect(dry.effects.filter((name) => name === "transaction").length).toBeGreaterThanOrEqual(3);
    expect(dry.effects).toContain("send submitSealed");

    for (let point = 0; point < points; point++) {
      await alice.stop().catch(swallow);
      const plan = await underPlan(alice, told, end);
      plan.arm(point >> 1, point % 2 === 0 ? "before" : "after");
      const text = `point ${point}`;
      await send(text).catch(swallow);
      await Promise.race([until(() => plan.dead), quiet(plan)]).catch(() => undefined);
      await revive(alice, plan);
      await alice.client.connection.caughtUp();
      await alice.client.outbox.settled();
      const kept = count(alice, ids[1], text);
      expect(kept, `${text} in the sender's own history`).toBe(point === 0 ? 0 : 1);
      await until(() => count(bob, ids[0], text) >= kept);
      expect(count(bob, ids[0], text), `${text} at the recipient`).toBe(kept);
    }
    await bob.client.connection.caughtUp();
    const all = textsOf(bob.client, ids[0]);
    expect(new Set(all).size).toBe(all.length);
  },
);

test.each(ENDS)(
  "a recipient %s around any effect of receiving: each accepted message is in its history exactly once",
  async (end) => {
    const told = new Told();
    await using world = await World.start();
    const { alice, bob, ids } = await pair(world);
    const send = (text: string) => alice.client.conversations.direct(ids[1]).send({ text });

    await bob.stop();
    const dry = await underPlan(bob, told, end);
    dry.record();
    await send("dry run");
    await until(() => textsOf(bob.client, ids[0]).includes("dry run"));
    await quiet(dry);
    const points = dry.effects.length * 2;
    console.log(`crash points of receiving: ${points} (${dry.effects.join(", ")})`);
    expect(dry.effects).toContain("send acknowledge");

    for (let point = 0; point < points; point++) {
      await bob.stop().catch(swallow);
      const plan = await underPlan(bob, told, end);
      plan.arm(point >> 1, point % 2 === 0 ? "before" : "after");
      const text = `point ${point}`;
      await send(text);
      await alice.client.outbox.settled();
      await Promise.race([until(() => plan.dead), quiet(plan)]).catch(() => undefined);
      await revive(bob, plan);
      await until(() => count(bob, ids[0], text) >= 1, 20_000, text);
      await bob.client.connection.caughtUp();
      expect(count(bob, ids[0], text), text).toBe(1);
      // The event is there for an application that died with the client.
      const kept = bob.client.events.read(0, 100_000);
      for (const event of kept) told.note(event);
      const news = kept.filter(
        (event) => event.kind === "line-added" && event.line?.kind === "message" && event.line.text === text,
      );
      expect(news.length, `event of ${text}`).toBe(1);
    }
    const texts = textsOf(bob.client, ids[0]);
    expect(new Set(texts).size).toBe(texts.length);
    // Receipts survive as well: in the end the sender knows that everything arrived.
    await until(() =>
      alice.client.conversations
        .direct(ids[1])
        .history({ limit: 1000 })
        .every((line) => line.kind !== "message" || !line.outgoing || line.deliveredTo.length === 1),
    );
  },
);
