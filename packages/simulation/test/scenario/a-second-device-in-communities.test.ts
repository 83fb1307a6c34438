import type { Bytes } from "@murmuration/base";
import type { Transport } from "@murmuration/client-core";
import {
  decodeMessage,
  encodeMessage,
  keyPackageClaimReply,
  keyPackageUpload,
  limits,
} from "@murmuration/wire";
import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import {
  agree,
  countOf,
  flock,
  hearEachOther,
  on,
  PATIENCE_MS,
  Peephole,
  small,
} from "../support/communities.ts";

/** A second device of somebody's account; it has its own database and connects. */
async function link(
  world: World,
  first: SimulatedDevice,
  wrapTransport?: (transport: Transport) => Transport,
): Promise<SimulatedDevice> {
  const way = wrapTransport === undefined ? {} : { wrapTransport };
  const second = world.device({ name: "second", settings: small, ...way });
  const client = await second.open();
  const request = await client.linking.request(first.client.linking.offer());
  await client.linking.finish(await first.client.linking.approve(request));
  client.connection.start();
  return second;
}

// The faults that these find: a new device that nobody adds, or adds to some of its communities; and a removed one whose
// leaf stays, with the keys to everything that is said from then on.
test("a device that is linked is in every community within seconds, and hears and is heard there", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const ids: string[] = [];
  for (const title of ["Flock", "Murmuration"]) {
    const group = await alice.client.conversations.createGroup({ title, members: [bob.id, carol.id] });
    ids.push(group.id);
  }
  await until(
    () =>
      ids.every((id) =>
        [bob, carol].every((device) => on(device, id)?.title !== undefined && on(device, id)?.title !== ""),
      ),
    PATIENCE_MS,
  );
  await on(alice, ids[0]!).send({ text: "before the second device" });
  await alice.client.outbox.settled();

  const startedAt = Date.now();
  const tablet = await link(world, bob);
  await until(() => ids.every((id) => on(tablet, id)?.state === "active"), PATIENCE_MS, "a leaf everywhere");
  console.log(`in every community after ${Date.now() - startedAt} ms`);
  await until(
    () => on(tablet, ids[0]!).title === "Flock" && on(tablet, ids[1]!).title === "Murmuration",
    PATIENCE_MS,
  );
  for (const id of ids) {
    await hearEachOther([alice, bob, carol, tablet], id, "two devices");
    await agree([alice, bob, carol, tablet], id);
    expect(on(alice, id).memberCount, "an account counts once").toBe(3);
    expect(countOf(tablet, id, "before the second device"), "a newcomer sees from its join on").toBe(0);
  }
  // What one device says is the other one's own line.
  await on(tablet, ids[0]!).send({ text: "from the tablet" });
  await until(() => countOf(bob, ids[0]!, "from the tablet") === 1, PATIENCE_MS);
  const [line] = on(bob, ids[0]!)
    .history({ limit: 100 })
    .filter((shown) => shown.kind === "message" && shown.text === "from the tablet");
  expect(line).toMatchObject({ outgoing: true, author: bob.id });
  await until(() => countOf(alice, ids[0]!, "from the tablet") === 1, PATIENCE_MS);
});

test("a community that comes after the link has a leaf of each device; a removed device is out everywhere and reads nothing more", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const first = await alice.client.conversations.createGroup({ title: "First", members: [bob.id, carol.id] });
  const tablet = await link(world, bob);
  await until(() => on(tablet, first.id)?.state === "active", PATIENCE_MS);
  await tablet.client.connection.caughtUp();
  await until(() => alice.client.connection.state === "connected");
  const second = await alice.client.conversations.createGroup({
    title: "Second",
    members: [bob.id, carol.id],
  });
  await until(
    () => on(tablet, second.id)?.title === "Second" && on(bob, second.id)?.title === "Second",
    PATIENCE_MS,
  );
  const ids = [first.id, second.id];
  for (const id of ids) await hearEachOther([alice, bob, carol, tablet], id, "all four");
  const heard = ids.map((id) => textsOf(tablet.client, id).length);
  const peephole = new Peephole();
  await alice.stop();
  await alice.start({ wrapStorage: peephole.keep });
  await alice.client.connection.caughtUp();
  const leaves = () => peephole.count("mls_leaf");
  expect(leaves()).toBe(8);

  await bob.client.linking.remove(tablet.client.account!.deviceId);
  await until(() => leaves() === 6, PATIENCE_MS, "its leaves are gone");
  for (const id of ids) {
    await hearEachOther([alice, bob, carol], id, "only three");
    expect(on(alice, id).memberCount).toBe(3);
    expect(on(bob, id).state).toBe("active");
  }
  expect(ids.map((id) => textsOf(tablet.client, id).length)).toEqual(heard);
  for (const id of ids)
    await on(tablet, id)
      .send({ text: "am I still here?" })
      .catch(() => undefined);
  await hearEachOther([alice, bob, carol], first.id, "in the end");
  for (const id of ids) expect(countOf(alice, id, "am I still here?")).toBe(0);
});

test("a device that is removed while its sibling is offline is out when the sibling is back", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  const tablet = await link(world, bob);
  await until(() => on(tablet, id)?.title === "Flock", PATIENCE_MS);
  const peephole = new Peephole();
  await alice.stop();
  await alice.start({ wrapStorage: peephole.keep });
  await bob.client.connection.stop();
  await bob.client.linking.remove(tablet.client.account!.deviceId);
  await bob.stop();
  await bob.start();
  await until(() => peephole.count("mls_leaf") === 3, PATIENCE_MS, "its leaf is gone");
  await hearEachOther([alice, bob, carol], id, "without the tablet");
  expect(textsOf(tablet.client, id)).toEqual([]);
});

/** A service that hands out, beside what there is, KeyPackages of a device that is gone. */
class StolenKeyPackages {
  private readonly kept: Bytes[] = [];
  /** How many it has handed out. */
  handedOut = 0;

  /** On the way of the device whose KeyPackages are kept. */
  readonly keep = (transport: Transport): Transport =>
    this.wrap(transport, (request) => {
      if (request.method === "PUT" && request.path === "/v1/key-packages")
        this.kept.push(...decodeMessage(keyPackageUpload, request.body!, limits.frameBytes).keyPackages);
      return transport.request(request);
    });

  /** On the way of whoever claims: of the account that has these devices, as of the device of this number. */
  readonly handOut = (device: () => number) => (transport: Transport) =>
    this.wrap(transport, async (request) => {
      const reply = await transport.request(request);
      if (request.path !== "/v1/key-packages/claims" || reply.status !== 200) return reply;
      const honest = decodeMessage(keyPackageClaimReply, reply.body, limits.frameBytes);
      const accounts = honest.accounts.map((account) => {
        const keyPackage = this.kept.shift();
        if (keyPackage === undefined) return account;
        this.handedOut++;
        return {
          ...account,
          keyPackages: [
            ...account.keyPackages,
            { deviceId: device() as never, keyPackage: keyPackage as never },
          ],
        };
      });
      return { ...reply, body: encodeMessage(keyPackageClaimReply, { accounts }) };
    });

  private wrap(transport: Transport, request: Transport["request"]): Transport {
    return Object.assign(Object.create(transport) as Transport, { request, close: () => transport.close() });
  }
}

// The fault that this finds: somebody stole a tablet, its owner removed it, and the service has it added to whatever comes.
test("a KeyPackage of a device that its account has removed adds nobody, whatever the service hands out", async () => {
  await using world = await World.start();
  const stolen = new StolenKeyPackages();
  let removed = 0;
  const [alice, bob] = await flock(world, "Alice", "Bob");
  const tablet = await link(world, bob, stolen.keep);
  removed = tablet.client.account!.deviceId;
  const peephole = new Peephole();
  await alice.stop();
  await alice.start({ wrapStorage: peephole.keep, wrapTransport: stolen.handOut(() => removed) });
  await alice.client.conversations.direct(bob.id).send({ text: "to both of you" });
  await until(() => textsOf(tablet.client, alice.id).length === 1, PATIENCE_MS, "Alice knows the tablet");

  await bob.client.linking.remove(removed);
  await alice.client.conversations.direct(bob.id).send({ text: "to one of you" });
  await alice.client.outbox.settled();
  await until(() => textsOf(bob.client, alice.id).length === 2, PATIENCE_MS);
  // His telephone would put the tablet out again: it is not there.
  const bobId = bob.id;
  await bob.stop();
  await alice.client.conversations.createGroup({ title: "Flock", members: [bobId], protocol: "mls" });
  expect(stolen.handedOut).toBeGreaterThan(0);
  expect(peephole.count("mls_leaf")).toBe(2);
});

test("what was read in a community is read on the own device that was away, whose log comes after its mail", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = await flock(world, "Alice", "Bob", "Carol");
  const group = await alice.client.conversations.createGroup({ title: "Flock", members: [bob.id, carol.id] });
  await until(() => on(bob, group.id)?.state === "active", PATIENCE_MS);
  const tablet = await link(world, bob);
  await until(() => on(tablet, group.id)?.state === "active", PATIENCE_MS, "a leaf for the tablet");
  await tablet.stop();
  const { messageId } = await group.send({ text: "read me" });
  await until(() => textsOf(bob.client, group.id).includes("read me"), PATIENCE_MS);
  await on(bob, group.id).markRead(on(bob, group.id).history().at(-1)!.historyId);
  await bob.client.outbox.settled();
  await tablet.start();
  await until(() => textsOf(tablet.client, group.id).includes("read me"), PATIENCE_MS);
  expect(on(tablet, group.id).message({ author: alice.id, messageId })).toMatchObject({ read: true });
});
