import { equalBytes, parseAccountId, UnavailableError } from "@murmuration/base";
import { expect, test } from "vitest";
import { FrameTap, introduce, textsOf, until, World } from "../../src/index.ts";
import { insidesOf } from "../support/bent-creator.ts";
import { groupOf } from "../support/pairwise-groups.ts";

test("a first contact without a card is an identified request; once accepted, both sides go sealed", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const alice = await world.join("Alice", { wrapTransport: tap.wrapTransport });
  const bob = await world.join("Bob", { settings: { acceptUnknown: false } });
  const toBob = alice.client.conversations.direct(bob.id);
  await toBob.send({ text: "may I?" });
  await alice.client.outbox.settled();
  expect(tap.sent.filter((body) => body.kind === "submitIdentified")).toHaveLength(1);
  expect(tap.sent.filter((body) => body.kind === "submitSealed")).toHaveLength(0);

  await until(() => bob.client.conversations.get(alice.id) !== undefined);
  const request = bob.client.conversations.get(alice.id)!;
  expect(request.state).toBe("request");
  expect(request.title).toBe("Alice");
  expect(request.history()).toHaveLength(1);
  // A request does not show that anybody is there: no receipt went out.
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(toBob.history()[0]).toMatchObject({ deliveredTo: [] });

  await request.accept();
  await until(() => {
    const line = toBob.history()[0];
    return line?.kind === "message" && line.deliveredTo.length === 1;
  });
  await until(() => alice.client.contacts.get(bob.id)?.reachable === true);
  expect(alice.client.contacts.get(bob.id)?.name).toBe("Bob");
  await toBob.send({ text: "thank you" });
  await until(() => textsOf(bob.client, alice.id).length === 2);
  expect(tap.sent.filter((body) => body.kind === "submitSealed").length).toBeGreaterThan(0);
  expect(tap.sent.filter((body) => body.kind === "submitIdentified")).toHaveLength(1);
});

test("a declined request leaves nothing behind", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice");
  const bob = await world.join("Bob", { settings: { acceptUnknown: false } });
  await alice.client.conversations.direct(bob.id).send({ text: "may I?" });
  await until(() => bob.client.conversations.get(alice.id)?.state === "request");
  await bob.client.conversations.get(alice.id)!.decline();
  expect(bob.client.conversations.get(alice.id)).toBeUndefined();
});

test("a blocked account is not shown, its old access key opens nothing, and others learn the new one", async () => {
  await using world = await World.start();
  const tap = new FrameTap();
  const alice = await world.join("Alice");
  const mallory = await world.join("Mallory", { wrapTransport: tap.wrapTransport });
  const carol = await world.join("Carol");
  await introduce(alice, mallory, carol);
  const group = await carol.client.conversations.createGroup({ title: "Birds", members: [alice.id] });
  await until(() => alice.client.conversations.get(group.id) !== undefined);
  for (const device of [mallory, carol]) {
    await alice.client.conversations.direct(device.id).send({ text: "hello" });
    await device.client.conversations.direct(alice.id).send({ text: "hello" });
    await until(
      () => textsOf(alice.client, device.id).length === 2 && textsOf(device.client, alice.id).length === 2,
    );
  }

  await alice.client.contacts.block(mallory.id);
  expect(alice.client.conversations.get(mallory.id)?.state).toBe("blocked");
  await until(() => alice.client.outbox.waiting === 0);
  tap.sent.length = 0;
  await mallory.client.conversations.direct(alice.id).send({ text: "let me in" });
  await mallory.client.outbox.settled();
  // The sealed submit was refused for its access key; what remains is a request, which Alice drops.
  expect(tap.sent.some((body) => body.kind === "submitIdentified")).toBe(true);

  await carol.client.conversations.direct(alice.id).send({ text: "still friends" });
  await until(() => textsOf(alice.client, carol.id).includes("still friends"));
  await carol.client.conversations.get(group.id)!.send({ text: "in the group too" });
  await until(() => textsOf(alice.client, group.id).includes("in the group too"));
  expect(textsOf(alice.client, mallory.id)).toEqual(["hello", "hello"]);
});

test("an account without a card is invited to a group, and becomes a member by accepting", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice");
  const bob = await world.join("Bob");
  const carol = await world.join("Carol");
  await introduce(alice, carol);
  const group = await alice.client.conversations.createGroup({ title: "Birds", members: [bob.id, carol.id] });
  await until(() => bob.client.conversations.get(group.id)?.state === "invited");
  expect(group.members().find((member) => member.accountId === bob.id)?.invited).toBe(true);
  await group.send({ text: "before" });
  await bob.client.conversations.get(group.id)!.accept();
  await until(() => group.memberCount === 3 && carol.client.conversations.get(group.id)?.memberCount === 3);
  await group.send({ text: "after" });
  await until(() => textsOf(bob.client, group.id).includes("after"));
  expect(textsOf(bob.client, group.id)).toEqual(["after"]);
});

test("a group that could not be told of a new profile key is told with the next connection", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [await world.join("Alice"), await world.join("Bob"), await world.join("Carol")];
  await introduce(carol, alice);
  await introduce(carol, bob);
  await groupOf(carol, alice, bob);
  const account = parseAccountId(alice.id);
  const keyAtBob = () => insidesOf(bob).context.contacts.get(account)?.profileKey;
  await until(() => keyAtBob() !== undefined);

  const { groups } = insidesOf(alice);
  groups.change = () => Promise.reject(new UnavailableError("transport/unreachable"));
  await alice.client.contacts.block(carol.id);
  await alice.stop();
  await alice.start();
  const own = insidesOf(alice).context.meta.require("profile-key");
  await until(() => keyAtBob() !== undefined && equalBytes(keyAtBob()!, own));
});
