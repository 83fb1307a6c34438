import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, seededRandom, World } from "../../src/index.ts";
import { countOf, on } from "../support/communities.ts";
import { DisorderedMail } from "../support/disordered-mail.ts";
import { allMoved, movable, pairwiseGroup, untilIn } from "../support/moves.ts";
import { decisions } from "../support/pairwise-groups.ts";

const random = seededRandom();
const NAMES = ["Alice", "Bob", "Carol", "Dave"];
/** While they talk and move; the search is through when all of it has come about. */
const MOST_WORDS = 1_000;

// Notices, secrets, Welcomes and what is said come in every order, before what they rest on and once more behind it. The
// fault that this finds: a notice that comes twice, or behind a later one, that moves a device back, or leaves it where it is.
test(`mail that comes twice and out of order moves nobody wrongly, loses nothing and shows nothing twice (SEED=${random.seed})`, async () => {
  await using world = await World.start();
  const mails = NAMES.map(() => new DisorderedMail(random));
  const devices: SimulatedDevice[] = [];
  for (const [at, name] of NAMES.entries())
    devices.push(await world.join(name, { settings: movable, wrapTransport: mails[at]!.wrapTransport }));
  await introduce(...devices);
  const [alice, bob, carol, dave] = devices as [
    SimulatedDevice,
    SimulatedDevice,
    SimulatedDevice,
    SimulatedDevice,
  ];
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  await on(alice, id).setRole(bob.id, "admin");
  const said: string[] = [];
  const say = async (): Promise<void> => {
    const text = String(said.length);
    said.push(text);
    await on(devices[said.length % devices.length]!, id).send({ text });
    await new Promise((resolve) => setTimeout(resolve, 20));
  };
  const isWith = (state: string) => () => on(alice, id).migration?.state === state;
  for (let word = 0; word < 20; word++) await say();

  // Begun, given up and begun by another: each of these is told, and each notice is about in several copies.
  await on(alice, id).migrate("start");
  for (let word = 0; word < 10; word++) await say();
  await on(alice, id)
    .migrate("abort")
    .catch((error: Error) => expect(error.message).toBe("migration/already-switched"));
  const isOver = () => ["pairwise", "mls"].includes(on(bob, id).migration?.state ?? "");
  await untilIn([bob], id, isOver, "Bob knows of it");
  await on(bob, id)
    .migrate("start")
    .catch((error: Error) => expect(error.message).toBe("migration/already-switched"));
  while (!devices.every((device) => on(device, id).protocol === "mls") && said.length < MOST_WORDS)
    await say();
  await allMoved(devices, id);
  for (let word = 0; word < 20; word++) await say();

  await untilIn(devices, id, isWith("mls"), "the record is done");
  await untilIn(
    devices,
    id,
    () => devices.every((device) => said.every((text) => countOf(device, id, text) > 0)),
    "everybody hears everything",
  );
  for (const device of devices) for (const text of said) expect(countOf(device, id, text), text).toBe(1);
  const { generation } = on(alice, id).migration!;
  for (const device of devices) {
    expect(on(device, id).migration).toMatchObject({ state: "mls", generation });
    expect(device.client.communityCosts.rejoins).toBe(0);
    for (const code of ["group/forked", "group/rolled-back", "migration/roster-mismatch"])
      expect(decisions(device, code)).toBe(0);
  }
  for (const { doubled, reordered } of mails) {
    expect(reordered).toBeGreaterThan(10);
    expect(doubled).toBeGreaterThan(5);
  }
}, 120_000);
