import { expect, test } from "vitest";
import { TOLD_AFTER_MS } from "../../../client-core/src/core/migration/spoken-order.ts";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { ShiftedClock } from "../../src/shifted-clock.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { allMoved } from "../support/moves.ts";
import { decisions, groupOf, inConversation, stays } from "../support/pairwise-groups.ts";

async function start() {
  const world = await World.start();
  const lies = new LyingRecords();
  const [alice, carol] = [await world.join("Alice"), await world.join("Carol")];
  const bob = await world.join("Bob", { wrapTransport: lies.wrapTransport });
  const all: readonly [SimulatedDevice, SimulatedDevice, SimulatedDevice] = [alice, bob, carol];
  await introduce(...all);
  return { world, lies, all, group: await groupOf(...all) };
}

test("a service that refuses what is sent, for no reason that the record knows, moves nobody, and is reported once", async () => {
  const { world, lies, all, group } = await start();
  await using _ = world;
  const [, bob] = all;
  lies.lieAboutSubmits(({ fence }) => (fence === undefined ? "pass" : "refuse"));
  await inConversation(bob, group.id).send({ text: "anybody there?" });
  await until(() => decisions(bob, "migration/refused-without-notice") > 0);

  // It asks again, with pauses that grow, and looks at the record each time.
  const first = lies.submittedAtMs.length - 1;
  const { reads } = lies;
  await until(() => lies.submittedAtMs.length > first + 2);
  const asked = lies.submittedAtMs.slice(first, first + 3);
  const pausesMs = asked.slice(1).map((atMs, index) => atMs - asked[index]!);
  for (const [index, pauseMs] of pausesMs.entries()) expect(pauseMs).toBeGreaterThan(450 * 2 ** index);
  expect(lies.reads - reads).toBeLessThanOrEqual(2);
  expect(inConversation(bob, group.id).protocol).toBe("pairwise");
  expect(decisions(bob, "migration/refused-without-notice")).toBe(1);
  expect(inConversation(bob, group.id).migration).toBeUndefined();

  lies.lieAboutSubmits(undefined);
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("anybody there?")));
}, 60_000);

test("a service that wants the same bytes again and again gets them ever less often, and they arrive when it takes them", async () => {
  const { world, lies, all, group } = await start();
  await using _ = world;
  const [, bob] = all;
  lies.lieAboutSubmits(({ fence }) => (fence === undefined ? "pass" : "again"));
  await inConversation(bob, group.id).send({ text: "anybody there?" });
  await until(() => lies.submittedAtMs.length >= 2);
  // The second comes at once, those behind it after 100 ms, 200 ms and so on.
  await stays(2_000, () => expect(lies.submittedAtMs.length).toBeLessThanOrEqual(7));
  expect(lies.submittedAtMs.length).toBeGreaterThan(3);

  lies.lieAboutSubmits(undefined);
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("anybody there?")));
}, 60_000);

test("two groups that are refused for no reason do not wake each other", async () => {
  const { world, lies, all, group } = await start();
  await using _ = world;
  const [, bob] = all;
  const other = await groupOf(...all);
  const refused = [group.id, other.id];
  lies.lieAboutSubmits(({ fence }) => (fence === undefined ? "pass" : "refuse"));
  for (const id of refused) await inConversation(bob, id).send({ text: "anybody there?" });
  await until(() => decisions(bob, "migration/refused-without-notice") === 2);
  const before = lies.submittedAtMs.length;
  await stays(1_200, () => expect(lies.submittedAtMs.length - before).toBeLessThanOrEqual(6));

  lies.lieAboutSubmits(undefined);
  await until(() =>
    all.every((device) => refused.every((id) => textsOf(device.client, id).includes("anybody there?"))),
  );
}, 60_000);

test.each([
  ["another state of a migration", { state: "switching", generation: 1, leaseLeftMs: 0 }],
  ["the same state and another generation", { state: "pairwise", generation: 3, leaseLeftMs: 0 }],
] as const)(
  "a service that names %s than the record is reported, and moves nobody",
  async (_, migration) => {
    const { world, lies, all, group } = await start();
    await using __ = world;
    const [alice, bob] = all;
    lies.lieAboutRecord((honest) => ({ ...honest, migration }));
    // A refusal makes Bob read the record.
    lies.lieAboutSubmits(({ fence }) => (fence === undefined ? "pass" : "refuse"));
    await inConversation(bob, group.id).send({ text: "hello" });
    await until(() => decisions(bob, "migration/state-mismatch") === 1);
    expect(inConversation(bob, group.id).protocol).toBe("pairwise");
    expect(inConversation(bob, group.id).migration).toBeUndefined();
    lies.lieAboutSubmits(undefined);
    lies.lieAboutRecord(undefined);
    await until(() => textsOf(alice.client, group.id).includes("hello"));
  },
  60_000,
);

test("a service that shows one member the record of yesterday after the switch is refused and reported", async () => {
  const { world, lies, all, group } = await start();
  await using _ = world;
  const [alice, bob] = all;
  lies.lieAboutSubmits(({ fence }) => (fence === undefined ? "pass" : "refuse"));
  await inConversation(bob, group.id).send({ text: "before" });
  await until(() => lies.last !== undefined);
  const yesterday = lies.last!;
  lies.lieAboutSubmits(undefined);
  await until(() => textsOf(alice.client, group.id).includes("before"));

  await group.migrate("start");
  await until(() => all.every((device) => inConversation(device, group.id).protocol === "mls"));
  lies.lieAboutRecord(() => yesterday);
  // Whatever makes Bob look at the record again.
  await (bob.client as unknown as { groups: { refresh(id: Uint8Array): Promise<boolean> } }).groups.refresh(
    Buffer.from(group.id, "base64url"),
  );
  expect(decisions(bob, "group/rolled-back")).toBe(1);
  expect(inConversation(bob, group.id).protocol).toBe("mls");
  await inConversation(bob, group.id).send({ text: "after" });
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("after")));
  // The honest reports nothing.
  expect(decisions(alice, "group/rolled-back")).toBe(0);
  expect(decisions(alice, "migration/state-mismatch")).toBe(0);
}, 60_000);

test("a sender whom the service keeps in the past is told by its peers, and what they had taken from it is there once", async () => {
  const { world, lies, all, group } = await start();
  await using _ = world;
  const [alice, bob, carol] = all;
  await inConversation(bob, group.id).send({ text: "1" });
  await until(() => textsOf(carol.client, group.id).includes("1"));
  // From here on Bob sees neither mail, nor a log, nor the record, and whatever he says is taken.
  lies.isMailKept = true;
  lies.keepBackLog(() => true);
  lies.lieAboutSubmits(() => "take");
  await group.migrate("start");
  await group.migrate("finish-now");
  await until(() => [alice, carol].every((device) => inConversation(device, group.id).protocol === "mls"));
  await inConversation(bob, group.id).send({ text: "2" });
  await inConversation(bob, group.id).send({ text: "3" });
  await until(() => textsOf(carol.client, group.id).includes("3"));
  expect(inConversation(bob, group.id).protocol).toBe("pairwise");

  // It lets mail through again, and with it what the peers have to say about that.
  lies.isMailKept = false;
  (bob.client as unknown as { link: { interrupt(): void } }).link.interrupt();
  await until(() => inConversation(bob, group.id).migration?.state !== undefined);
  await inConversation(bob, group.id).send({ text: "4" });
  lies.keepBackLog(undefined);
  (bob.client as unknown as { link: { interrupt(): void } }).link.interrupt();
  await until(() => inConversation(bob, group.id).protocol === "mls");
  await until(() => all.every((device) => textsOf(device.client, group.id).length === 4));
  for (const device of all) expect(textsOf(device.client, group.id)).toEqual(["1", "2", "3", "4"]);
}, 90_000);

test("a sender who never hears of the switch from its creator goes over by the word of a peer, who tells it once it has waited", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start();
  const [ofAlice, ofBob] = [new LyingRecords(), new LyingRecords()];
  const alice = await world.join("Alice", { wrapTransport: ofAlice.wrapTransport });
  const bob = await world.join("Bob", { wrapTransport: ofBob.wrapTransport });
  const carol = await world.join("Carol", { environment: clock.environment });
  const all = [alice, bob, carol];
  await introduce(...all);
  const { id } = await groupOf(alice, bob, carol);
  await inConversation(bob, id).send({ text: "1" });
  await until(() => [alice, carol].every((device) => textsOf(device.client, id).includes("1")));
  // Bob joins the MLS group and is ready, but its log stands still for him, and whatever he says pairwise is taken.
  ofBob.keepBackLog(() => true);
  ofBob.lieAboutSubmits(() => "take");
  // Of what Alice says over pairwise sessions once she has switched nothing arrives anywhere: nobody has her notice.
  alice.client.events.on((event) => {
    if (event.kind === "protocol-changed") ofAlice.lieAboutSubmits(() => "swallow");
  });
  await inConversation(alice, id).migrate("start");
  await allMoved([alice, carol], id);

  // Just after the switch the notice may be on its way to him: nobody answers, and he has no reason to ask.
  const { reads } = ofBob;
  const isTold = () => ["switching", "mls"].includes(inConversation(bob, id).migration?.state ?? "");
  await inConversation(bob, id).send({ text: "2" });
  await until(() => [alice, carol].every((device) => textsOf(device.client, id).includes("2")));
  await stays(1_000, () => expect(isTold()).toBe(false));
  expect(ofBob.reads).toBe(reads);

  // Carol's clock says that it is late. She has switched, and he still speaks as before.
  clock.offsetMs = TOLD_AFTER_MS;
  await inConversation(bob, id).send({ text: "3" });
  await until(isTold);
  ofBob.keepBackLog(undefined);
  (bob.client as unknown as { link: { interrupt(): void } }).link.interrupt();
  await until(() => inConversation(bob, id).protocol === "mls");
  await inConversation(bob, id).send({ text: "4" });
  await until(() => all.every((device) => textsOf(device.client, id).length === 4));
  for (const device of all) expect(textsOf(device.client, id)).toEqual(["1", "2", "3", "4"]);
}, 90_000);

test("a service that drops the secret, and keeps the notice from one half, loses nothing that is said", async () => {
  const { world, lies, all, group } = await start();
  await using _ = world;
  const [alice, bob, carol] = all;
  lies.isMailKept = true;
  await group.migrate("start");
  await group.migrate("finish-now");
  await until(() => [alice, carol].every((device) => inConversation(device, group.id).protocol === "mls"));
  await inConversation(carol, group.id).send({ text: "where is Bob?" });
  await inConversation(bob, group.id).send({ text: "I am here" });
  // He is refused, reads the record, and comes in from outside.
  await until(() => inConversation(bob, group.id).protocol === "mls");
  await until(() => [alice, carol].every((device) => textsOf(device.client, group.id).includes("I am here")));
  lies.isMailKept = false;
  await inConversation(carol, group.id).send({ text: "there you are" });
  await until(() => all.every((device) => textsOf(device.client, group.id).includes("there you are")));
}, 90_000);
