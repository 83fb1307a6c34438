import { parseGroupId, submitId } from "@murmuration/base";
import { type Socket, systemEnvironment, type Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { FrameTap, introduce, textsOf, until, World } from "../../src/index.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { allShow, flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";
import { RawConnection } from "../support/raw-connection.ts";

test("a signature opens a group on the connection that it was made for, at the service that it was made for", async () => {
  await using world = await World.start();
  await using elsewhere = await World.start();
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob")];
  const group = await flockOf(alice, bob);
  const bobs = new Outlaw(bob, world.origin);
  const foreign = new Outlaw(await newcomer(elsewhere, "Bob, elsewhere"), elsewhere.origin);
  const [first, second] = [await RawConnection.open(world.origin), await RawConnection.open(world.origin)];

  const signed = bobs.accessFrame(first, group.id, 0);
  expect(await second.refusalOf(signed)).toBe("group/not-a-member");
  // What another service gets from Bob when it passes this one's challenge on.
  const passedOn = bobs.accessFrame(second, group.id, 0, foreign.trustRoot);
  expect(await second.refusalOf(passedOn)).toBe("group/not-a-member");
  // One leaf's signature is not another leaf's, nor another epoch's.
  const { epoch, leafIndex } = signed;
  expect(await first.refusalOf({ ...signed, leafIndex: 1 - leafIndex })).toBe("group/not-a-member");
  expect(await first.refusalOf({ ...signed, epoch: epoch - 1 })).toBe("group/not-a-member");
  // A service that was set back may not know the leaf yet, and says that; it opens nothing all the same.
  expect(await first.refusalOf({ ...signed, epoch: epoch + 1 })).toBe("group/epoch-unknown");
  expect(second.entries).toEqual([]);

  expect(await first.demand("groupAccessGranted", signed)).toMatchObject({ removed: false });
  expect(await second.demand("groupAccessGranted", bobs.accessFrame(second, group.id, 0))).toMatchObject({
    removed: false,
  });
});

test("a former member reads up to its removal and no further, and does nothing else", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  const former = new Outlaw(bob, world.origin);
  const watching = await former.enter(group.id, 0);
  await talkRound([alice, bob, carol], group.id, "with Bob");
  await group.remove(bob.id);
  await until(() => namesIn(carol, group.id).length === 2, 20_000, "Bob is removed");
  await until(() => inGroup(bob, group.id)?.state === "removed", 20_000, "Bob hears of it");
  await talkRound([alice, carol], group.id, "without Bob");
  await group.setTitle("Starlings");

  const back = await RawConnection.open(world.origin);
  const granted = await back.demand("groupAccessGranted", former.accessFrame(back, group.id, 0));
  expect(granted.removed).toBe(true);
  await back.entriesThrough(granted.lastSequence);
  for (const connection of [watching, back]) {
    const last = connection.entries.at(-1)!;
    expect(last.commit).toBeDefined();
    expect(last.sequence).toBe(granted.lastSequence);
  }

  const id = parseGroupId(group.id);
  const old = former.group(group.id);
  const { message } = old.createApplicationMessage(systemEnvironment.random(8));
  const { message: commit, groupInfo } = old.createCommit();
  const { message: proposal } = former.group(group.id).propose({ kind: "self_remove" });
  const submit = submitId(systemEnvironment.random(16));
  expect(await back.refusalOf({ kind: "groupSubmit", groupId: id, submitId: submit, message })).toBe(
    "group/not-a-member",
  );
  expect(await back.refusalOf({ kind: "groupCommit", groupId: id, commit, groupInfo, recipients: [] })).toBe(
    "group/not-a-member",
  );
  expect(await back.refusalOf({ kind: "groupPropose", groupId: id, proposal })).toBe("group/not-a-member");
  expect(await back.refusalOf(former.groupInfoFrame(back, group.id))).toBe("group/not-a-member");
  expect(textsOf(bob.client, group.id)).toEqual(["with Bob 0", "with Bob 1", "with Bob 2"]);
});

test("who is removed while it sees nothing of the log, and then enters the group anew, learns that it is out", async () => {
  await using world = await World.start();
  const log = new TamperedLog();
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob", log)];
  const group = await flockOf(alice, bob);
  log.begin(() => []);
  await group.remove(bob.id);
  await inGroup(bob, group.id)!.community.heal();
  expect(inGroup(bob, group.id)?.state).toBe("removed");
});

test("a device's own connection carries no group, and a connection with a group carries no sealed message", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const [alice, bob] = [await newcomer(world, "Alice", tap), await newcomer(world, "Bob")];
  await introduce(alice, bob);
  await alice.client.conversations.direct(bob.id).send({ text: "sealed" });
  await until(() => textsOf(bob.client, alice.id).includes("sealed"), 20_000, "Bob has it");
  const sealed = tap.sent.find(({ kind }) => kind === "submitSealed")!;
  const group = await flockOf(alice, bob);
  const outlaw = new Outlaw(alice, world.origin);

  await alice.client.connection.stop();
  const own = await RawConnection.open(world.origin, outlaw.auth);
  expect(await own.refusalOf(outlaw.accessFrame(await RawConnection.open(world.origin), group.id))).toBe(
    "group/needs-anonymous",
  );
  const anonymous = await RawConnection.open(world.origin);
  await anonymous.demand("submitAccepted", sealed);
  await anonymous.demand("groupAccessGranted", outlaw.accessFrame(anonymous, group.id));
  expect(await anonymous.refusalOf(sealed)).toBe("submit/sealed-beside-group");
  expect(anonymous.isClosed).toBe(false);
  const fresh = await RawConnection.open(world.origin);
  await fresh.demand("submitAccepted", sealed);
});

test("a client never says anything sealed on the connection that its leaf has opened a group on", async () => {
  await using world = await World.start();
  const sockets: Set<string>[] = [];
  const wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: async (...given: Parameters<Transport["connect"]>): Promise<Socket> => {
        const socket = await transport.connect(...given);
        const kinds = new Set<string>();
        sockets.push(kinds);
        const send: Socket["send"] = (frame) => {
          kinds.add(frame.body.kind);
          socket.send(frame);
        };
        return Object.assign(Object.create(socket) as Socket, { send });
      },
    });
  const [alice, bob] = [await newcomer(world, "Alice", { wrapTransport }), await newcomer(world, "Bob")];
  const group = await flockOf(alice, bob);
  await alice.client.conversations.direct(bob.id).send({ text: "sealed" });
  await group.send({ text: "in the group" });
  await allShow([bob], group.id, "in the group");
  await until(() => textsOf(bob.client, alice.id).includes("sealed"), 20_000, "Bob has both");
  await alice.stop();
  await alice.start();
  await alice.client.conversations.direct(bob.id).send({ text: "sealed again" });
  await until(() => textsOf(bob.client, alice.id).includes("sealed again"), 20_000, "Bob has it");
  await inGroup(alice, group.id)!.send({ text: "in the group again" });
  await allShow([bob], group.id, "in the group again");

  const withGroups = sockets.filter((kinds) => kinds.has("groupAccess"));
  const withSealed = sockets.filter((kinds) => kinds.has("submitSealed"));
  expect([withGroups.length, withSealed.length]).toEqual([2, 2]);
  expect(withGroups.filter((kinds) => withSealed.includes(kinds))).toEqual([]);
});
