import { formatId, InvariantError } from "@murmuration/base";
import { afterEach, expect, test, vi } from "vitest";
import { Communities } from "../../../client-core/src/shell/communities/communities.ts";
import { CommunityContent } from "../../../client-core/src/shell/communities/content.ts";
import type { Context } from "../../../client-core/src/shell/context.ts";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { commitsIn, countOf } from "../support/communities.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";

afterEach(() => {
  vi.restoreAllMocks();
});

/** What a person is told of groups that broke: of which one, and over what. */
const told = ({ client }: SimulatedDevice) =>
  client.events
    .read(0, 1_000)
    .flatMap((event) =>
      event.kind === "decision-needed" ? [[event.code, event.conversationId, event.cause]] : [],
    );

/** Alice and Bob are in two groups. `faults` says what Bob's client stumbles over in the first one, message by message. */
async function scene(world: World) {
  const failures: unknown[] = [];
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", { onFailure: (error) => failures.push(error) });
  const broken = await flockOf(alice, bob);
  const sound = await flockOf(alice, bob);
  for (const { id } of [broken, sound]) await talkRound([alice, bob], id, "before");
  const faults: { next: () => Error | undefined } = { next: () => undefined };
  const receive = CommunityContent.prototype.receive;
  vi.spyOn(CommunityContent.prototype, "receive").mockImplementation(function (
    this: CommunityContent,
    ...[id, message]: Parameters<typeof receive>
  ) {
    const { own } = (this as unknown as { readonly context: Context }).context;
    const isBobs = formatId(own.accountId) === bob.id && formatId(id) === broken.id;
    const fault = isBobs ? faults.next() : undefined;
    if (fault !== undefined) throw fault;
    return receive.call(this, id, message);
  });
  return { alice, bob, broken, sound, faults, failures };
}

const standing = (device: SimulatedDevice, id: string) => inGroup(device, id)!.community.standing;

/** One entry of one group's log breaks what the client's code relies on. */
async function story(world: World): Promise<void> {
  const { alice, bob, broken, sound, faults, failures } = await scene(world);
  const once = [new InvariantError("test/broken")];
  faults.next = () => once.pop();

  await broken.send({ text: "what Bob stumbles over" });
  await until(() => failures.length > 0 || told(bob).length > 0, 20_000, "it breaks");
  expect(failures).toEqual([]);
  expect(told(bob)).toEqual([["group/unusable", broken.id, "test/broken"]]);
  await talkRound([alice, bob], sound.id, "in the sound one");

  // Bob is back in the other one, behind what he stumbled over.
  await until(() => standing(bob, broken.id) === "following", 20_000, "Bob is back");
  await talkRound([alice, bob], broken.id, "after");
  expect(countOf(bob, broken.id, "what Bob stumbles over")).toBe(0);
  expect(bob.client.communityCosts.rejoins).toBe(1);
  expect(told(alice)).toEqual([]);
}

test("an entry that breaks what the client relies on sets that group aside: the client lives, says what broke, and enters anew", async () => {
  await using world = await World.start();
  await story(world);
}, 60_000);

test("canary: where it is taken for a failure of the client the story fails", async () => {
  vi.spyOn(Communities.prototype as unknown as { frameFailed(): void }, "frameFailed").mockImplementation(
    function (this: { readonly context: Context }, _: unknown, error: unknown) {
      this.context.failed(error);
    } as never,
  );
  await using world = await World.start();
  await expect(story(world)).rejects.toThrow(/expected \[.*\] to deeply equal \[\]/);
}, 60_000);

test("what breaks with every entry is left alone until the next connection, and costs the others one commit", async () => {
  await using world = await World.start();
  const { alice, bob, broken, sound, faults, failures } = await scene(world);
  faults.next = () => new InvariantError("test/broken");
  const before = commitsIn(world, broken.id);

  await broken.send({ text: "breaks" });
  await until(() => told(bob).length === 1, 20_000, "it breaks");
  await until(() => commitsIn(world, broken.id) > before, 20_000, "Bob enters anew");
  await until(() => standing(bob, broken.id) === "following", 20_000, "Bob is back");
  await broken.send({ text: "breaks again" });
  await until(() => told(bob).length === 2, 20_000, "it breaks again");
  for (const n of [1, 2, 3]) await broken.send({ text: `and again ${n}` });
  await talkRound([alice, bob], sound.id, "in the sound one");
  await alice.client.outbox.settled();

  expect(standing(bob, broken.id)).toBe("set-aside");
  expect(standing(bob, sound.id)).toBe("following");
  // Nobody who waits for the client waits for that group.
  await bob.client.connection.caughtUp();
  expect(bob.client.communityCosts.rejoins).toBe(1);
  expect(told(bob)).toHaveLength(2);

  // Mended, as by a new version: the next start takes it up. Nothing that Bob wrote meanwhile is lost.
  await inGroup(bob, broken.id)!.send({ text: "I am still here" });
  faults.next = () => undefined;
  await bob.stop();
  await bob.start();
  await allShow([alice, bob], broken.id, "I am still here");
  await talkRound([alice, bob], broken.id, "after");
  expect(failures).toEqual([]);
}, 60_000);

test("a person who does not want to wait for that heals the group", async () => {
  await using world = await World.start();
  const { alice, bob, broken, faults } = await scene(world);
  faults.next = () => new InvariantError("test/broken");
  await broken.send({ text: "breaks" });
  await until(
    () => standing(bob, broken.id) === "following" && told(bob).length === 1,
    20_000,
    "Bob is back",
  );
  await broken.send({ text: "breaks again" });
  await until(() => standing(bob, broken.id) === "set-aside", 20_000, "it is set aside");
  faults.next = () => undefined;
  await inGroup(bob, broken.id)!.community.heal();
  await talkRound([alice, bob], broken.id, "healed");
}, 60_000);

test("what is wrong with all groups ends the client as ever: a storage that fails, or code that throws anything else", async () => {
  await using world = await World.start();
  const { bob, broken, faults, failures } = await scene(world);
  const once = [new Error("the disk is full")];
  faults.next = () => once.pop();
  await broken.send({ text: "the last word" });
  await until(() => failures.length > 0, 20_000, "the client ends");
  expect(String(failures[0])).toContain("the disk is full");
  expect(told(bob)).toEqual([]);
  expect(textsOf(bob.client, broken.id)).not.toContain("the last word");
}, 60_000);
