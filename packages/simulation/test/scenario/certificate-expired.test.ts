import { expect, test } from "vitest";
import { CrashPlan, introduce, Killed, ShiftedClock, textsOf, until, World } from "../../src/index.ts";

test("a message whose sender certificate ran out in the outbox is sealed anew, and arrives once", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const environment = clock.environment;
  const alice = await world.join("Alice", { environment });
  const bob = await world.join("Bob", { environment });
  await introduce(alice, bob);
  const [aliceId, bobId] = [alice.id, bob.id];
  await alice.client.conversations.direct(bobId).send({ text: "hello" });
  await until(() => textsOf(bob.client, aliceId).length === 1);
  await alice.stop();

  const plan = new CrashPlan();
  const swallow = (error: unknown) => {
    if (!(error instanceof Killed)) throw error;
  };
  await alice.start({ wrapStorage: plan.wrapStorage, wrapTransport: plan.wrapTransport, onFailure: swallow });
  await alice.client.connection.caughtUp();
  await until(() => plan.effects.length === 0);
  // Effects of sending: the message, then its ciphertexts, then the submit: there it dies.
  plan.arm(2, "before");
  await alice.client.conversations.direct(bobId).send({ text: "a day too late" }).catch(swallow);
  await until(() => plan.dead);
  await alice.stop().catch(swallow);

  clock.offsetMs = 25 * 3600_000;
  await alice.start({ wrapStorage: (storage) => storage, wrapTransport: (transport) => transport });
  await alice.client.outbox.settled();
  await until(() => textsOf(bob.client, aliceId).includes("a day too late"));
  expect(textsOf(bob.client, aliceId)).toEqual(["hello", "a day too late"]);
});

// The fault that this finds: a telephone with the wrong date ends the program.
test("a device whose clock is wrong says so, keeps what it wants to say, and says it when the clock is right", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start();
  const alice = await world.join("Alice", { environment: clock.environment });
  const bob = await world.join("Bob");
  await introduce(alice, bob);
  const aliceId = alice.id;
  const codes: string[] = [];
  alice.client.events.on((event) => {
    if (event.kind === "decision-needed") codes.push(event.code);
  });

  clock.offsetMs = 40 * 86_400_000;
  await alice.client.conversations.direct(bob.id).send({ text: "from the future" });
  await until(() => codes.length > 0);
  expect(codes).toEqual(["certificate/refused"]);
  expect(alice.client.outbox.waiting).toBe(1);
  expect(textsOf(bob.client, aliceId)).toEqual([]);

  clock.offsetMs = 0;
  await until(() => textsOf(bob.client, aliceId).length === 1);
  expect(codes).toEqual(["certificate/refused"]);
});

// The fault that this finds: by a clock that is behind a certificate lasts for ever. The service takes what is sealed with it,
// and nobody opens it any more.
test("a device whose clock is weeks behind is heard on the next day as well", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const behind = new ShiftedClock();
  behind.offsetMs = -40 * 86_400_000;
  const alice = await world.join("Alice", { environment: behind.environment });
  const bob = await world.join("Bob", { environment: clock.environment });
  await introduce(alice, bob);
  const [aliceId, bobId] = [alice.id, bob.id];
  await alice.client.conversations.direct(bobId).send({ text: "today" });
  await until(() => textsOf(bob.client, aliceId).length === 1);

  await alice.stop();
  for (const one of [clock, behind]) one.offsetMs += 26 * 3600_000;
  await alice.start();
  await alice.client.conversations.direct(bobId).send({ text: "tomorrow" });
  await until(() => textsOf(bob.client, aliceId).includes("tomorrow"));
});
