import { accountId, formatId, fromBase64Url } from "@murmuration/base";
import type { Conversation } from "@murmuration/client-core";
import { describe, expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { insidesOf, tell } from "../support/bent-creator.ts";
import { groupOf, inConversation, stays } from "../support/pairwise-groups.ts";

/** The next id that this client draws for what it founds is this one. */
function nextId(device: SimulatedDevice, id: string): void {
  const { environment } = insidesOf(device).context;
  const random = environment.random.bind(environment);
  Object.assign(environment, {
    random: (length: number) => {
      if (length !== 16) return random(length);
      Object.assign(environment, { random });
      return fromBase64Url(id);
    },
  });
}

/** A pairwise group of a chosen id. */
function groupCalled(id: string, creator: SimulatedDevice, member: SimulatedDevice): Promise<Conversation> {
  nextId(creator, id);
  return creator.client.conversations.createGroup({ title: "Carol", members: [member.id] });
}

const text = (words: string) => ({ text: { text: words, attachments: [] } });

/** An invite has come, and was looked at. */
async function untilAnswered(from: SimulatedDevice, at: SimulatedDevice): Promise<void> {
  await from.client.outbox.settled();
  tell(from, at, [text("and now?")]);
  await until(() => textsOf(at.client, from.id).includes("and now?"));
  const { held } = insidesOf(at).context;
  await until(() => held.of("invite").length === 0);
}

// Accounts and groups have ids of one form, and whoever founds one chooses it.
describe("whoever founds something under an id that is taken", () => {
  test("gets into no conversation with a contact by a group of the contact's id", async () => {
    await using world = await World.start();
    const [bob, carol] = [await world.join("Bob"), await world.join("Carol")];
    const mallory = await world.join("Mallory");
    await introduce(bob, carol);
    await introduce(mallory, bob);
    const withCarol = bob.client.conversations.direct(carol.id);

    const group = await groupCalled(carol.id, mallory, bob);
    expect(group.id).toBe(carol.id);
    await group.send({ text: "it is me, Carol" });
    await untilAnswered(mallory, bob);

    expect(bob.client.conversations.get(carol.id)).toMatchObject({ kind: "direct", state: "active" });
    expect(
      inConversation(bob, carol.id)
        .members()
        .map(({ accountId }) => accountId),
    ).not.toContain(mallory.id);
    await stays(500, () => expect(textsOf(bob.client, carol.id)).toEqual([]));
    await withCarol.send({ text: "are you there?" });
    await until(() => textsOf(carol.client, bob.id).includes("are you there?"));
  });

  test("takes nobody's community away by a pairwise group of its id", async () => {
    await using world = await World.start();
    const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
    const mallory = await world.join("Mallory");
    await introduce(alice, bob, mallory);
    const community = await alice.client.conversations.createGroup({
      title: "Birds",
      members: [bob.id],
      protocol: "mls",
    });
    await until(() => bob.client.conversations.get(community.id)?.protocol === "mls");

    const group = await groupCalled(community.id, mallory, bob);
    await group.migrate("start");
    await untilAnswered(mallory, bob);

    expect(inConversation(bob, community.id).protocol).toBe("mls");
    await community.send({ text: "still here" });
    await until(() => textsOf(bob.client, community.id).includes("still here"));
    expect(inConversation(bob, community.id).memberCount).toBe(2);
  });

  test("keeps nobody out of a group by naming an account of the group's id", async () => {
    await using world = await World.start();
    const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
    await introduce(alice, bob);
    const id = insidesOf(alice).context.newMessageId();
    // As a record does that Bob was invited to read.
    const { contacts } = insidesOf(bob).context;
    contacts.ensure(accountId(id));
    nextId(alice, formatId(id));
    const group = await groupOf(alice, bob);
    expect(group.id).toBe(formatId(id));
    await group.send({ text: "and yet it came" });
    await until(() => textsOf(bob.client, group.id).includes("and yet it came"));
  });

  test("says nothing in a group by an account of the group's id", async () => {
    await using world = await World.start();
    const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
    await introduce(alice, bob);
    const group = await groupOf(alice, bob);
    const mallory = world.device({ name: "Mallory" });
    const client = await mallory.open();
    nextId(mallory, group.id);
    await client.register({ name: "Mallory" });
    client.connection.start();
    await client.connection.caughtUp();
    expect(mallory.id).toBe(group.id);

    await client.contacts.add(bob.client.account!.contactCard);
    tell(mallory, bob, [text("a word of nobody")]);
    await client.outbox.settled();
    await group.send({ text: "a word of Alice" });
    await until(() => textsOf(bob.client, group.id).includes("a word of Alice"));
    expect(textsOf(bob.client, group.id)).toEqual(["a word of Alice"]);
    expect(() => bob.client.conversations.direct(mallory.id)).toThrow("conversation/id-taken");
  });
});
