import { fromBase64Url } from "@murmuration/base";
import type { ClientEvent, HttpReply, Storage, Transport } from "@murmuration/client-core";
import { systemEnvironment } from "@murmuration/client-core";
import {
  type BundleReply,
  bundleReply,
  decodeMessage,
  deviceListReply,
  encodeMessage,
} from "@murmuration/wire";
import { describe, expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { agree, countOf, on, small } from "../support/communities.ts";

/** Hands out another device list for one account, as a service would that wants to read along. */
class LyingService {
  lie: Uint8Array<ArrayBuffer> | undefined;
  account = "";
  replies = 0;

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: (handlers, timeoutMs) => transport.connect(handlers, timeoutMs),
    request: async (request) => {
      const reply = await transport.request(request);
      if (this.lie === undefined || !request.path.startsWith(`/v1/accounts/${this.account}/`)) return reply;
      this.replies++;
      return request.path.endsWith("/bundles") ? this.forgeBundles(reply) : this.forgeList(reply);
    },
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });

  private forgeList(reply: HttpReply): HttpReply {
    const honest = decodeMessage(deviceListReply, reply.body, reply.body.length);
    return { ...reply, body: encodeMessage(deviceListReply, { ...honest, deviceList: this.lie! }) };
  }

  private forgeBundles(reply: HttpReply): HttpReply {
    const honest: BundleReply = decodeMessage(bundleReply, reply.body, reply.body.length);
    return { ...reply, body: encodeMessage(bundleReply, { ...honest, deviceList: this.lie! }) };
  }
}

test("a service that shows another identity gets nothing sent; the user decides, and the message waits for it", async () => {
  await using world = await World.start();
  await using otherWorld = await World.start();
  const liar = new LyingService();
  let database: Storage | undefined;
  const alice = await world.join("Alice");
  const bob = await world.join("Bob", {
    wrapTransport: liar.wrapTransport,
    wrapStorage: (storage) => {
      database = storage;
      return storage;
    },
  });
  await introduce(alice, bob);
  const toAlice = bob.client.conversations.direct(alice.id);
  await toAlice.send({ text: "hello" });
  await until(() => textsOf(alice.client, bob.id).length === 1);
  await bob.client.outbox.settled();
  const numberBefore = await bob.client.contacts.safetyNumber(alice.id);
  expect(numberBefore).toBe(await alice.client.contacts.safetyNumber(bob.id));

  liar.account = alice.id;
  liar.lie = await ownDeviceList(await impostorOf(alice, otherWorld), otherWorld);

  // Bob needs a new session, and so asks the service for Alice's keys.
  database!.run("DELETE FROM pairwise WHERE tbl = 'session' AND key = ?", [`${alice.id}.1`]);
  await toAlice.send({ text: "only for Alice" });
  const decision = () => bob.client.events.read(0, 10_000).find((event) => event.kind === "decision-needed");
  await until(() => decision() !== undefined);
  expect(decision()).toMatchObject({ code: "pairwise/identity-changed", accountId: alice.id });
  await expect(bob.client.outbox.settled({ timeoutMs: 300 })).rejects.toThrow("outbox/still-waiting");
  expect(liar.replies).toBeGreaterThan(0);

  // Whoever meets Alice by her card for the first time is not even asked: the card says which key is hers.
  const carol = await world.join("Carol", { wrapTransport: liar.wrapTransport });
  await carol.client.contacts.add(alice.client.account!.contactCard);
  const toAliceToo = carol.client.conversations.direct(alice.id);
  await toAliceToo.send({ text: "nor this" });
  await carol.client.outbox.settled();
  expect(toAliceToo.history()[0]).toMatchObject({
    sendState: "failed",
    failure: "contact/fingerprint-mismatch",
  });

  // The new key has a number of its own, and is accepted by nobody who has compared another one.
  const { contacts } = bob.client;
  const claimed = contacts.claimedSafetyNumber(alice.id)!;
  expect(claimed).toMatch(/^\d{60}$/u);
  expect(claimed).not.toBe(numberBefore);
  for (const safetyNumber of [numberBefore, ""])
    await expect(contacts.decideIdentity(alice.id, { keep: "claimed", safetyNumber })).rejects.toThrow(
      "contact/other-number",
    );

  const forged = liar.lie;
  liar.lie = undefined;
  await contacts.decideIdentity(alice.id, { keep: "known" });
  await until(() => textsOf(alice.client, bob.id).includes("only for Alice"));
  expect(await contacts.safetyNumber(alice.id)).toBe(numberBefore);
  expect(contacts.claimedSafetyNumber(alice.id)).toBeUndefined();
  await expect(contacts.decideIdentity(alice.id, { keep: "known" })).rejects.toThrow(
    "contact/nothing-to-decide",
  );

  // Whoever accepts it all the same goes on with the key whose number was named.
  liar.lie = forged;
  database!.run("DELETE FROM pairwise WHERE tbl = 'session' AND key = ?", [`${alice.id}.1`]);
  await toAlice.send({ text: "for whoever has that key" });
  await until(() => contacts.claimedSafetyNumber(alice.id) !== undefined);
  await contacts.decideIdentity(alice.id, { keep: "claimed", safetyNumber: claimed });
  expect(await contacts.safetyNumber(alice.id)).toBe(claimed);
  // The card is of the other key: it makes nothing verified any more, and is taken by nobody who has accepted this one.
  expect(contacts.get(alice.id)?.verified).toBe(false);
  await expect(contacts.add(alice.client.account!.contactCard)).rejects.toThrow(
    "contact/fingerprint-mismatch",
  );
});

test("a contact card that comes later says that the service has shown another key from the first", async () => {
  await using world = await World.start();
  await using otherWorld = await World.start();
  const liar = new LyingService();
  const alice = await world.join("Alice");
  const bob = await world.join("Bob", { wrapTransport: liar.wrapTransport });
  liar.account = alice.id;
  liar.lie = await ownDeviceList(await impostorOf(alice, otherWorld), otherWorld);
  await bob.client.contacts.add(alice.id);
  const shown = await bob.client.contacts.safetyNumber(alice.id);
  await expect(bob.client.contacts.add(alice.client.account!.contactCard)).rejects.toThrow(
    "contact/fingerprint-mismatch",
  );
  expect(bob.client.contacts.get(alice.id)?.verified).toBe(false);
  // Nothing of it was taken, and the number is not that of Alice.
  expect(await bob.client.contacts.safetyNumber(alice.id)).toBe(shown);
  expect(shown).not.toBe(await alice.client.contacts.safetyNumber(bob.id));
});

type Told = Pick<Extract<ClientEvent, { kind: "decision-needed" }>, "accountId" | "code" | "conversationId">;

const toldOf = ({ client }: SimulatedDevice): readonly Told[] =>
  client.events
    .read(0, 10_000)
    .filter((event) => event.kind === "decision-needed")
    .map(({ code, conversationId, accountId }) => ({ code, conversationId, accountId }));

const settings = { ...small, preKeyStock: 4 };

describe("a contact card that one device of an account has", () => {
  /** Alice, and two devices of Bob, of which the service shows the second one another key than hers. */
  async function aliceAndBob(world: World, otherWorld: World) {
    const liar = new LyingService();
    const alice = await world.join("Alice");
    const phone = await world.join("Bob", { settings });
    const tablet = world.device({ settings, wrapTransport: liar.wrapTransport });
    const { linking } = await tablet.open();
    const request = await linking.request(phone.client.linking.offer());
    await linking.finish(await phone.client.linking.approve(request));
    tablet.client.connection.start();
    await tablet.client.connection.caughtUp();
    liar.account = alice.id;
    liar.lie = await ownDeviceList(await impostorOf(alice, otherWorld), otherWorld);
    return { alice, liar, phone, tablet };
  }

  test("has the other one take no other key from the service", async () => {
    await using world = await World.start();
    await using otherWorld = await World.start();
    const { alice, liar, phone, tablet } = await aliceAndBob(world, otherWorld);
    await phone.client.contacts.add(alice.client.account!.contactCard);
    await until(() => tablet.client.contacts.get(alice.id) !== undefined);
    const toAlice = tablet.client.conversations.direct(alice.id);
    await toAlice.send({ text: "for Alice alone" });
    await tablet.client.outbox.settled();
    expect(toAlice.history().at(-1)).toMatchObject({ failure: "contact/fingerprint-mismatch" });
    liar.lie = undefined;
    await toAlice.send({ text: "and now to her" });
    await until(() => textsOf(alice.client, phone.id).includes("and now to her"));
    expect(tablet.client.contacts.get(alice.id)?.verified).toBe(true);
  });

  test("says on the other one that the service has shown it another key", async () => {
    await using world = await World.start();
    await using otherWorld = await World.start();
    const { alice, phone, tablet } = await aliceAndBob(world, otherWorld);
    await tablet.client.contacts.add(alice.id);
    await tablet.client.contacts.safetyNumber(alice.id);
    await phone.client.contacts.add(alice.client.account!.contactCard);
    const told = { accountId: alice.id, code: "contact/fingerprint-mismatch" };
    await until(() => toldOf(tablet).some(({ code }) => code === told.code));
    expect(toldOf(tablet)).toMatchObject([told]);
    expect(tablet.client.contacts.get(alice.id)?.verified).toBe(false);
    expect(toldOf(phone)).toEqual([]);
  });
});

test.each([
  // Bob has asked for her number, and so has a key that the service made up.
  { whose: "by the service, which lied", isCard: false },
  // What Bob has scanned is not what the service says, and all that he has of her.
  { whose: "by a contact card", isCard: true },
])(
  "whoever knows somebody under another key $whose, is told when that one comes into a group, and is shown nothing of it",
  async ({ isCard }) => {
    await using world = await World.start();
    await using otherWorld = await World.start();
    const liar = new LyingService();
    const alice = await world.join("Alice", { settings });
    const bob = await world.join("Bob", { settings, wrapTransport: liar.wrapTransport });
    const carol = await world.join("Carol", { settings });
    const impostor = await impostorOf(alice, otherWorld);
    if (isCard) await bob.client.contacts.add(impostor.client.account!.contactCard);
    else {
      liar.account = alice.id;
      liar.lie = await ownDeviceList(impostor, otherWorld);
      await bob.client.contacts.add(alice.id);
      await bob.client.contacts.safetyNumber(alice.id);
      liar.lie = undefined;
    }
    await introduce(carol, alice);
    await introduce(carol, bob);
    const members = [alice.id, bob.id];
    const { id } = await carol.client.conversations.createGroup({ title: "Birds", members });
    await agree([alice, bob, carol], id);
    const other = { code: "group/other-identity", conversationId: id, accountId: alice.id };
    expect(toldOf(bob)).toEqual([other]);

    for (const text of ["one", "two", "three"]) await on(alice, id).send({ text });
    await until(() => textsOf(carol.client, id).length === 3);
    await on(carol, id).send({ text: "the last word" });
    await until(() => [alice, bob].every((device) => countOf(device, id, "the last word") === 1));
    expect(textsOf(carol.client, id)).toEqual(["one", "two", "three", "the last word"]);
    expect(textsOf(bob.client, id)).toEqual(["the last word"]);
    expect(toldOf(bob)).toEqual([other]);
    expect(toldOf(carol)).toEqual([]);
  },
  60_000,
);

test("whoever joins by a link asks nobody but whom the link names, and takes nothing else from it", async () => {
  await using world = await World.start();
  await using otherWorld = await World.start();
  const liar = new LyingService();
  const alice = await world.join("Alice", { settings });
  const bob = await world.join("Bob", { settings, wrapTransport: liar.wrapTransport });
  const carol = await world.join("Carol", { settings });
  alice.client.events.on((event) => {
    if (event.kind === "join-requested")
      void on(alice, event.conversationId).community.approveJoin(event.accountId);
  });
  const group = await alice.client.conversations.createGroup({
    title: "Birds",
    members: [],
    protocol: "mls",
  });
  const { url = "" } = await group.community.createLink({ approval: true });

  liar.account = alice.id;
  liar.lie = await ownDeviceList(await impostorOf(alice, otherWorld), otherWorld);
  await expect(bob.client.conversations.join(url)).rejects.toThrow("pairwise/identity-changed");
  expect(bob.client.conversations.list()).toEqual([]);
  await carol.client.conversations.join(url);
  await agree([alice, carol], group.id);
  for (const { client } of [bob, carol]) expect(client.contacts.get(alice.id)?.verified ?? false).toBe(false);
  // What somebody says of a link's maker later is no less true for it.
  await carol.client.contacts.add(alice.client.account!.contactCard);
  expect(carol.client.contacts.get(alice.id)?.verified).toBe(true);
}, 60_000);

describe("in a pairwise group in which somebody stands under another key than is known of that account", () => {
  async function birds() {
    const world = await World.start();
    const otherWorld = await World.start();
    const [alice, bob, carol] = [
      await world.join("Alice"),
      await world.join("Bob"),
      await world.join("Carol"),
    ];
    const impostor = await impostorOf(alice, otherWorld);
    await introduce(carol, alice);
    await introduce(carol, bob);
    const scanned = () => bob.client.contacts.add(impostor.client.account!.contactCard, "Alice of the card");
    const create = (...members: readonly SimulatedDevice[]) =>
      carol.client.conversations.createGroup({ title: "Birds", members: members.map(({ id }) => id) });
    const told = (group: string) => ({
      code: "group/other-identity",
      conversationId: group,
      accountId: alice.id,
    });
    const worlds = new AsyncDisposableStack();
    worlds.use(world);
    worlds.use(otherWorld);
    return { alice, bob, carol, create, scanned, told, worlds };
  }

  test("whoever is in it is told when that one comes", async () => {
    const { alice, bob, carol, create, scanned, told, worlds } = await birds();
    await using _ = worlds;
    await scanned();
    const group = await create(bob);
    await until(() => on(bob, group.id)?.state === "active");
    expect(toldOf(bob)).toEqual([]);
    await group.add([alice.id]);
    await until(() => on(bob, group.id).memberCount === 3);
    expect(toldOf(bob)).toEqual([told(group.id)]);
    expect(toldOf(carol)).toEqual([]);
  });

  test("whoever is added to it comes in and is told, and takes no name of that account from there", async () => {
    const { alice, bob, carol, create, scanned, told, worlds } = await birds();
    await using _ = worlds;
    await scanned();
    const group = await create(alice, bob);
    await until(() => on(bob, group.id)?.state === "active");
    expect(toldOf(bob)).toEqual([told(group.id)]);
    const nameBefore = bob.client.contacts.get(alice.id)?.name;
    await until(() => on(alice, group.id)?.state === "active");
    await alice.client.setName("A liar");
    await until(() => carol.client.contacts.get(alice.id)?.name === "A liar");
    await on(carol, group.id).send({ text: "go on" });
    await until(() => textsOf(bob.client, group.id).includes("go on"));
    expect(bob.client.contacts.get(alice.id)?.name).toBe(nameBefore);
    expect(toldOf(bob)).toEqual([told(group.id)]);
  });

  test("whoever scans a card later is told then", async () => {
    const { alice, bob, create, scanned, told, worlds } = await birds();
    await using _ = worlds;
    const group = await create(alice, bob);
    await until(() => on(bob, group.id)?.state === "active");
    expect(toldOf(bob)).toEqual([]);
    await scanned();
    expect(toldOf(bob)).toEqual([told(group.id)]);
    await scanned();
    expect(toldOf(bob)).toEqual([told(group.id)]);
  });
});

/** Somebody else's keys under an account id, signed as they should be. */
async function impostorOf(of: SimulatedDevice, otherWorld: World): Promise<SimulatedDevice> {
  let drawn = 0;
  const impostor = await otherWorld.join("Alice", {
    environment: {
      ...systemEnvironment,
      random: (length) =>
        length === 16 && drawn++ === 0 ? fromBase64Url(of.id) : systemEnvironment.random(length),
    },
  });
  expect(impostor.id).toBe(of.id);
  return impostor;
}

async function ownDeviceList(
  device: Awaited<ReturnType<World["join"]>>,
  world: World,
): Promise<Uint8Array<ArrayBuffer>> {
  let seen: Uint8Array<ArrayBuffer> | undefined;
  await device.stop();
  await device.start({
    origin: world.origin,
    wrapTransport: (transport) => ({
      origin: transport.origin,
      connect: (handlers, timeoutMs) => transport.connect(handlers, timeoutMs),
      request: async (request) => {
        const reply = await transport.request(request);
        if (request.path.endsWith("/devices")) {
          seen = decodeMessage(deviceListReply, reply.body, reply.body.length).deviceList;
        }
        return reply;
      },
      stream: (request) => transport.stream(request),
      get traffic() {
        return transport.traffic;
      },
      close: () => transport.close(),
    }),
  });
  await until(() => seen !== undefined);
  return seen!;
}
