import { randomBytes } from "node:crypto";
import { setTimeout as delay } from "node:timers/promises";
import { formatId, parseGroupId, UnavailableError } from "@murmuration/base";
import { expect, test } from "vitest";
import { migrationGroupId } from "../../../client-core/src/core/migration/keys.ts";
import {
  introduce,
  type SimulatedDevice,
  seededRandom,
  testLimits,
  textsOf,
  World,
} from "../../src/index.ts";
import { insidesOf, untilGeneration, writeStep } from "../support/bent-creator.ts";
import { countOf, on } from "../support/communities.ts";
import { HeldFrames } from "../support/held-frames.ts";
import { LyingRecords } from "../support/lying-records.ts";
import { allMoved, movable, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

/** More than is held of what one device says. */
const MUCH = 580;

/**
 * What a device shows of each message, in the order of their ids: nobody promises one order between two speakers. What was
 * deleted before it had left is nowhere but at its author, who shows it as deleted.
 */
function shownBy(device: SimulatedDevice, id: string): readonly string[] {
  return on(device, id)
    .history({ limit: 10_000 })
    .flatMap((line) =>
      line.kind === "message" && !line.deleted
        ? [
            `${line.messageId} ${line.text} ${line.reactions
              .map(({ author, emoji }) => `${author}${emoji}`)
              .sort()
              .join()}`,
          ]
        : [],
    )
    .sort();
}

const noticesOf = (device: SimulatedDevice, id: string): readonly string[] =>
  on(device, id)
    .history({ limit: 10_000 })
    .flatMap((line) => (line.kind === "notice" ? [line.notice.code] : []))
    .sort();

async function alike(devices: readonly SimulatedDevice[], id: string): Promise<void> {
  await untilIn(
    devices,
    id,
    () => new Set(devices.map((device) => shownBy(device, id).join("\n"))).size === 1,
    "everybody shows the same",
  ).catch((error: Error) => {
    throw new Error(
      `${error.message}\n${devices.map((device) => shownBy(device, id).join("\n")).join("\n\n")}`,
    );
  });
}

// The faults that these find: a change whose message is still held back, and is dropped for it; what is said a second time
// over the other protocol and shown a second time; and what a full mailbox kept from somebody, lost with the protocol.
test("edits, reactions and deletions that are under way at the switch reach what they are about", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol", "Dave"]);
  const [alice] = devices;
  const { id } = await pairwiseGroup(alice, devices.slice(1));
  const said: { readonly author: SimulatedDevice; readonly messageId: string }[] = [];

  async function act(device: SimulatedDevice): Promise<void> {
    const conversation = on(device, id);
    const known = said.filter(({ author, messageId }) => {
      const line = conversation.message({ author: author.id, messageId });
      return line?.kind === "message" && !line.deleted;
    });
    const any = known[random.below(Math.max(1, known.length))];
    const own = known.find(({ author }) => author === device);
    const chosen = random.below(10);
    if (chosen < 3 && any !== undefined)
      await conversation.react({ author: any.author.id, messageId: any.messageId }, "🪶");
    else if (chosen < 5 && own !== undefined)
      await conversation.edit(own.messageId, `edited ${random.below(1_000)}`);
    else if (chosen < 6 && own !== undefined)
      await conversation.delete({ author: device.id, messageId: own.messageId });
    else {
      const { messageId } = await conversation.send({ text: `text ${said.length}` });
      said.push({ author: device, messageId });
    }
  }

  for (const device of devices) await act(device);
  await on(alice, id).migrate("start");
  let acts = 0;
  while (!devices.every((device) => on(device, id).protocol === "mls")) {
    await act(devices[random.below(devices.length)]!);
    await delay(random.below(25));
    expect(++acts).toBeLessThan(2_000);
  }
  for (let more = 0; more < 20; more++) await act(devices[random.below(devices.length)]!);
  const left = () =>
    said.filter(({ author, messageId }) => {
      const line = on(author, id).message({ author: author.id, messageId });
      return line?.kind === "message" && !line.deleted;
    });
  await untilIn(
    devices,
    id,
    () => devices.every((device) => shownBy(device, id).length === left().length),
    "everybody has every message",
  ).catch((error: Error) => {
    const places = new Map(devices.map((device, place) => [device.id, `member ${place}`]));
    const linesOf = (device: SimulatedDevice) =>
      said.map(({ author, messageId }, nth) => {
        const line = on(device, id).message({ author: author.id, messageId });
        const state = line?.kind === "message" ? `${line.deleted ? "deleted" : "there"}` : "missing";
        return `${nth} by ${places.get(author.id)}: ${state}`;
      });
    const [first, ...rest] = devices.map(linesOf);
    const different = first!.flatMap((line, nth) =>
      rest.every((lines) => lines[nth] === line)
        ? []
        : [[line, ...rest.map((lines) => lines[nth])].join(" | ")],
    );
    throw new Error(`${error.message}\n${different.join("\n")}`);
  });
  await alike(devices, id);
}, 120_000);

// The fault that it finds: what is held of somebody is lost with its leaf, for whoever goes over late.
test("whoever goes over late shows what those said over MLS who have left since, or came and left meanwhile", async () => {
  await using world = await World.start();
  const mail = new LyingRecords();
  const [alice, bob, dave] = await movers(world, ["Alice", "Bob", "Dave"]);
  const [carol] = await movers(world, ["Carol"], { wrapTransport: mail.wrapTransport });
  await introduce(alice, bob, carol, dave);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const { groups, migrations } = insidesOf(carol);
  // It hears no word of the switch, and does not ask.
  Object.assign(migrations, { noticed: () => {} });
  migrations.lookAtMs.set(`switch ${id}`, Number.POSITIVE_INFINITY);
  await on(alice, id).migrate("start");
  await untilIn([carol], id, () => on(carol, id).migration?.state === "ready", "all are ready");
  mail.isMailKept = true;
  await allMoved([alice, bob], id);
  await on(alice, id).add([dave.id]);
  // By another name: it was never in a pairwise group.
  const name = formatId(migrationGroupId(parseGroupId(id), 1));
  await untilIn([dave], name, () => on(dave, name)?.state === "active", "Dave is in");
  await on(bob, id).send({ text: "said by Bob" });
  await on(dave, name).send({ text: "said by Dave" });
  const hasBoth = (device: SimulatedDevice) =>
    ["said by Bob", "said by Dave"].every((text) => countOf(device, id, text) === 1);
  await untilIn([alice], id, () => hasBoth(alice), "both are heard");
  await on(dave, name).leave();
  await on(alice, id).remove(bob.id);
  await untilIn([alice], id, () => on(alice, id).memberCount === 2, "both are gone");
  expect(on(carol, id).protocol).toBe("pairwise");

  await untilIn(
    [carol],
    id,
    () => insidesOf(carol).context.mls.leaves(parseGroupId(id)).length === 2,
    "its log is there",
  );
  mail.isMailKept = false;
  await groups.refresh(parseGroupId(id));
  await allMoved([carol], id);
  expect(hasBoth(carol)).toBe(true);
}, 120_000);

// The fault that it finds: of what one device says only so much is held, and the rest was lost.
test("whoever goes over late misses nothing, however much one device has said over MLS by then", async () => {
  await using world = await World.start();
  const mail = new LyingRecords();
  const [alice, bob] = await movers(world, ["Alice", "Bob"]);
  const [carol] = await movers(world, ["Carol"], { wrapTransport: mail.wrapTransport });
  await introduce(alice, bob, carol);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const { context, groups, migrations } = insidesOf(carol);
  // It hears no word of the switch, and cannot read the record.
  Object.assign(migrations, { noticed: () => {} });
  const refresh = () => Promise.reject(new UnavailableError("connection/lost"));
  Object.assign(groups, { refresh });
  await on(alice, id).migrate("start");
  await untilIn([carol], id, () => on(carol, id).migration?.state === "ready", "all are ready");
  mail.isMailKept = true;
  await allMoved([alice, bob], id);
  for (let said = 0; said < MUCH; said++) await on(bob, id).send({ text: `much ${said}` });
  const heardBy = (device: SimulatedDevice) =>
    shownBy(device, id).filter((line) => line.includes(" much ")).length;
  await untilIn([alice], id, () => heardBy(alice) === MUCH, "all is said");
  const held = () => context.held.extent("mls", parseGroupId(id)).count;
  await untilIn([carol], id, () => held() >= 400, "much is held");
  // It would have taken the rest by now.
  await delay(2_000);

  Reflect.deleteProperty(groups, "refresh");
  await allMoved([carol], id);
  await untilIn([carol], id, () => heardBy(carol) === MUCH, "Carol has it all");
}, 180_000);

// The fault that it finds: it is lost for all who had not read it there.
test("what the service takes for a group that is given up in that moment is said again", async () => {
  await using world = await World.start();
  const frames = new HeldFrames();
  const [alice] = await movers(world, ["Alice"], { wrapTransport: frames.wrapTransport });
  const [bob, carol] = await movers(world, ["Bob", "Carol"]);
  const devices = [alice, bob, carol];
  await introduce(...devices);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  await on(alice, id).setRole(bob.id, "admin");
  await on(alice, id).migrate("start");
  await requireMoved(devices, id, "all are in");
  const talk = new Talk(id);
  frames.keep("groupSubmit");
  await talk.say(alice, "on its way");
  await untilIn([alice], id, () => frames.keeps, "it is on its way");
  await writeStep(bob, id, ({ migration }) => ({
    kind: "migrate-recover",
    generation: migration.generation + 1,
  }));
  await untilGeneration(2, id, ...devices);
  frames.letGo();
  await requireMoved(devices, id, "on we go");
  await talk.heardBy(devices);
}, 120_000);

// The fault that it finds: others wait a minute for the number of what was deleted before it had left.
test("what somebody deletes before it has left keeps nobody waiting when the group moves", async () => {
  await using world = await World.start();
  const [alice, bob, carol, dave] = await movers(world, ["Alice", "Bob", "Carol", "Dave"]);
  const devices = [alice, bob, carol];
  const { id } = await pairwiseGroup(alice, [bob, carol, dave]);
  const talk = new Talk(id);
  await talk.say(bob, "before");
  await talk.heardBy(devices);
  await dave.stop();
  await on(alice, id).migrate("start");
  await untilIn(devices, id, () => on(alice, id).migration?.readyAccounts === 3, "three are ready");
  await bob.client.connection.stop();
  const { messageId } = await on(bob, id).send({ text: "never mind" });
  await on(bob, id).delete({ author: bob.id, messageId });
  await on(alice, id).migrate("finish-now");
  await allMoved([alice, carol], id);
  bob.client.connection.start();
  await talk.say(bob, "behind it");
  await talk.heardBy(devices, 20_000);
  for (const device of devices) expect(countOf(device, id, "never mind")).toBe(0);
}, 120_000);

test("attachments, the title and the timer change hands while the group moves, and no line is there twice", async () => {
  await using world = await World.start();
  const devices = await movers(world, ["Alice", "Bob", "Carol"]);
  const [alice, bob, carol] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const bytes = new Uint8Array(randomBytes(70_000));
  await carol.stop();
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => on(alice, id).migration?.readyAccounts === 2, "two are ready");
  await on(alice, id).setTitle("Starlings");
  await on(alice, id).setExpiry(3_600);
  const pointer = await bob.client.attachments.upload({ bytes, fileName: "bird.bin" });
  await on(bob, id).send({ text: "look", attachments: [pointer] });
  await on(alice, id).migrate("finish-now");
  await on(alice, id).send({ text: "with a timer" });
  await allMoved([alice, bob], id);
  await carol.start();
  await requireMoved(devices, id, "all");
  for (const device of devices) {
    await untilIn(devices, id, () => on(device, id).title === "Starlings", "the title");
    expect(on(device, id).expireAfterSeconds).toBe(3_600);
    const line = on(device, id)
      .history()
      .find((one) => one.kind === "message" && one.text === "look");
    const received = line?.kind === "message" ? line.attachments[0]! : undefined;
    const parts: Uint8Array[] = [];
    for await (const part of device.client.attachments.download(received!)) parts.push(part);
    expect(Buffer.concat(parts)).toEqual(Buffer.from(bytes));
    expect(noticesOf(device, id), device.path).toEqual([
      "conversation/expiry-changed",
      "group/created",
      "group/title-changed",
    ]);
  }
  // The timer goes on from what the record had, and the title too, also for whoever was added under the old one.
  await on(alice, id).community.setDescription("They fly");
  const described = () => devices.every((device) => on(device, id).community.description === "They fly");
  await untilIn(devices, id, described, "the description");
  for (const device of devices) expect(on(device, id).title).toBe("Starlings");
  await on(alice, id).setTitle("Birds");
  await untilIn(devices, id, () => devices.every((device) => on(device, id).title === "Birds"), "the title");
}, 120_000);

test("a member whose mailbox is full at the switch gets all of it when it is back, once and in order", async () => {
  await using world = await World.start({
    service: { limits: { ...testLimits, mailboxEnvelopes: 24, welcomeRetryMs: 3_000 } },
  });
  // Her Welcome and the secret wait for room in her mailbox.
  const devices = await movers(world, ["Alice", "Bob", "Carol"], {
    settings: { migrationPatienceMs: 90_000 },
  });
  const [alice, bob, carol] = devices;
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  const talk = new Talk(id);
  for (const device of devices) await talk.say(device, "before");
  await talk.heardBy(devices);
  await carol.stop();
  for (let n = 0; n < 20; n++) for (const device of [alice, bob]) await talk.say(device, "pairwise");
  await talk.heardBy([alice, bob]);
  await on(alice, id).migrate("start");
  await untilIn([alice], id, () => (on(alice, id).migration?.readyAccounts ?? 0) >= 2, "two are ready");
  await talk.say(bob, "pairwise");
  await on(alice, id).migrate("finish-now");
  await allMoved([alice, bob], id);
  for (const device of [alice, bob]) await talk.say(device, "mls");
  await carol.start();
  await requireMoved(devices, id, "all", 150_000);
  await talk.heardBy(devices, 150_000);
}, 330_000);

test("a member that has not accepted the group as a request yet moves with it, and accepts afterwards", async () => {
  await using world = await World.start();
  const [alice, bob] = await movers(world, ["Alice", "Bob"]);
  const carol = await world.join("Carol", { settings: { ...movable, acceptUnknown: false } });
  // They know her, and she does not know them.
  for (const device of [alice, bob]) await device.client.contacts.add(carol.client.account!.contactCard);
  await introduce(alice, bob);
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, carol.id] });
  const { id } = group;
  await untilIn(
    [carol],
    id,
    () => on(carol, id)?.state === "request" && on(bob, id)?.state === "active",
    "asked",
  );
  await group.send({ text: "pairwise" });
  await group.migrate("start");
  await allMoved([alice, bob, carol], id);
  await group.send({ text: "mls" });
  await untilIn([carol], id, () => countOf(carol, id, "mls") === 1, "she hears");
  expect(on(carol, id).state).toBe("request");
  expect(textsOf(carol.client, id)).toEqual(["pairwise", "mls"]);
  await on(carol, id).accept();
  await requireMoved([alice, bob, carol], id, "accepted");
}, 120_000);
