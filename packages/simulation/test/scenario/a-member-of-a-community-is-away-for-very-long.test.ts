import { expect, test } from "vitest";
import {
  FrameTap,
  introduce,
  ShiftedClock,
  type SimulatedDevice,
  textsOf,
  until,
  World,
} from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  hearEachOther,
  logOf,
  on,
  PATIENCE_MS,
  requireNoneTwice,
  small,
} from "../support/communities.ts";

const EPOCHS = 500;
const EPOCHS_PER_MESSAGE = 4;
const DAY_MS = 86_400_000;

// The fault that this finds: a client that looks for the present epoch first, and skips what was said in those between.
test(`a member that was away for ${EPOCHS} epochs reads everything that was said in them, page by page`, async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await on(alice, id).setRole(bob.id, "admin");
  await agree([alice, bob, carol], id);
  await carol.stop();

  const said: string[] = [];
  for (let epoch = 1; epoch <= EPOCHS; epoch++) {
    await on(epoch % 2 === 0 ? alice : bob, id).setExpiry(epoch % 2 === 0 ? 1_000_000 : 2_000_000);
    if (epoch % EPOCHS_PER_MESSAGE !== 0) continue;
    const text = `in epoch ${epoch}`;
    said.push(text);
    const speaker = epoch % 8 === 0 ? alice : bob;
    await on(speaker, id).send({ text });
    await speaker.client.outbox.settled();
  }

  const tap = new FrameTap();
  const startedAt = Date.now();
  await carol.start({ wrapTransport: tap.wrapTransport });
  await carol.client.connection.caughtUp(60_000);
  console.log(`caught up with ${EPOCHS} epochs in ${Date.now() - startedAt} ms`);
  expect(textsOf(carol.client, id)).toEqual(said);
  const pages = tap.sent.filter(({ kind }) => kind === "groupAcknowledge").length;
  expect(pages, "one acknowledgement for each page").toBeGreaterThan(1);
  await agree([alice, bob, carol], id);
  await hearEachOther([alice, bob, carol], id, "she is back");
}, 600_000);

// The fault that this finds: a silent gap, or a member that is told to enter anew and does not, or sends its outbox twice.
test("a member that was away until the log expired enters anew: it reads what is said from then on, and its outbox goes out once", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const options = { settings: small, environment: clock.environment };
  const devices: SimulatedDevice[] = [];
  for (const name of ["Alice", "Bob", "Carol"]) devices.push(await world.join(name, options));
  const [alice, bob, carol] = devices as [SimulatedDevice, SimulatedDevice, SimulatedDevice];
  await introduce(...devices);
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => devices.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await hearEachOther(devices, id, "in the beginning");

  await carol.client.connection.stop();
  await on(carol, id).send({ text: "written while away" });
  await carol.stop();
  await on(alice, id).send({ text: "nobody keeps this for Carol" });
  await on(alice, id).setRole(bob.id, "admin");
  await on(alice, id).setTitle("Murmuration");
  await alice.client.outbox.settled();
  await agree([alice, bob], id);
  clock.offsetMs = 31 * DAY_MS;
  await on(bob, id).setExpiry(1_000_000);
  await on(bob, id).send({ text: "nor this, which is behind it" });
  await bob.client.outbox.settled();
  const before = logOf(world, id).length;
  await world.runRetention();
  expect(logOf(world, id).length).toBeLessThan(before);

  const tap = new FrameTap();
  await carol.start({ wrapTransport: tap.wrapTransport });
  await until(() => devices.every((device) => countOf(device, id, "written while away") === 1), PATIENCE_MS);
  await carol.client.connection.caughtUp();
  expect(
    tap.sent.filter(({ kind }) => kind === "groupInfoRequest"),
    "it was told to enter anew",
  ).toHaveLength(1);
  expect(on(carol, id).state).toBe("active");
  await agree(devices, id);
  expect(on(carol, id).title).toBe("Murmuration");
  await hearEachOther(devices, id, "she is back");
  for (const device of devices) requireNoneTwice(device, id);
  expect(countOf(carol, id, "nobody keeps this for Carol")).toBe(0);
  expect(countOf(alice, id, "written while away")).toBe(1);
}, 180_000);
