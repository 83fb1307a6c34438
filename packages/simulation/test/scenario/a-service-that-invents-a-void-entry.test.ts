import { equalBytes, parseAccountId } from "@murmuration/base";
import { decodeMemberCredential } from "@murmuration/mls-groups";
import type { GroupEntries, GroupRefusal } from "@murmuration/wire";
import { expect, test } from "vitest";
import { FrameTap, type SimulatedDevice, until, World } from "../../src/index.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { bentCrypto, commitFrame, Outlaw } from "../support/outlaw.ts";
import { askedOfForks, newestCommit, refusalBy, takeBack } from "../support/refusals.ts";
import { storedLog } from "../support/service-rows.ts";

/** What a service that lies together with Carol and Dave, or has heard them on other things, can put into a void entry. */
interface Words {
  readonly carol: GroupRefusal;
  readonly dave: GroupRefusal;
  /** Of the commit before, which stood at another place. */
  readonly older: GroupRefusal;
  /** Of another commit at the same place. */
  readonly otherBytes: GroupRefusal;
  /** Of Alice's, who made the commit. */
  readonly alice: GroupRefusal;
}

const flipped = ({ leafIndex, signature }: GroupRefusal): GroupRefusal => ({
  leafIndex,
  signature: signature.map((byte, at) => (at === 9 ? byte ^ 1 : byte)) as GroupRefusal["signature"],
});

const inventions: Record<string, (words: Words) => readonly GroupRefusal[]> = {
  "nobody's word": () => [],
  "one word": ({ carol }) => [carol],
  "one word twice": ({ carol }) => [carol, carol],
  "a forged signature": ({ carol, dave }) => [carol, flipped(dave)],
  "one member's signature in the name of another": ({ carol, dave }) => [
    carol,
    { leafIndex: dave.leafIndex, signature: carol.signature },
  ],
  "what was said of an older commit": ({ carol, older }) => [carol, older],
  "what was said of another commit at its place": ({ carol, otherBytes }) => [carol, otherBytes],
  "the word of whoever made it": ({ carol, alice }) => [carol, alice],
};

test("a service that takes a commit back on too few words is not followed, and a person is asked", async () => {
  await using world = await World.start();
  const [log, tap] = [new TamperedLog(), new FrameTap()];
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", {
    wrapTransport: (transport) => tap.wrapTransport(log.wrapTransport(transport)),
  });
  const [carol, dave] = [await newcomer(world, "Carol"), await newcomer(world, "Dave")];
  const group = await flockOf(alice, bob, carol, dave);
  await group.setTitle("before");
  await until(() => inGroup(bob, group.id)?.title === "before", 20_000, "before");
  const before = newestCommit(log);
  const outlaws = new Map([alice, carol, dave].map((device) => [device, new Outlaw(device, world.origin)]));
  let round = 0;
  for (const [name, invent] of Object.entries(inventions)) {
    const title = `title ${++round}`;
    await inGroup(alice, group.id)!.setTitle(title);
    const devices = [bob, carol, dave];
    await until(() => devices.every((device) => inGroup(device, group.id)?.title === title), 20_000, title);
    await group.send({ text: title });
    await allShow(devices, group.id, title);
    const about = newestCommit(log);
    const word = (device: SimulatedDevice, of = about) => refusalBy(outlaws.get(device)!, group.id, of);
    const refusals = invent({
      carol: word(carol),
      dave: word(dave),
      alice: word(alice),
      older: word(dave, before),
      otherBytes: word(dave, { ...about, commit: before.commit }),
    });
    const submits = () => tap.sent.filter(({ kind }) => kind === "groupSubmit").length;
    const said = submits();

    takeBack(log, group.id, about.sequence, refusals);

    await until(() => askedOfForks(bob) === round, 20_000, `Bob is asked: ${name}`);
    await expect(inGroup(bob, group.id)!.send({ text: "for all" }), name).rejects.toThrow("group/forked");
    expect(submits(), name).toBe(said);
    expect(inGroup(bob, group.id)!.title, name).toBe(title);
    await inGroup(bob, group.id)!.community.heal();
    await talkRound([alice, bob], group.id, `healed ${round}`);
  }
});

/** Confirmation tags are wrong: nobody can follow the commit, and the service does not see it. */
const unfollowable = bentCrypto((honest) => ({
  mac: (key, data) => {
    const tag = honest.mac(key, data);
    if (data.length === honest.suite.hashLength) tag[0]! ^= 1;
    return tag;
  },
}));

/** Void entries with other words than the service was given. */
const withWords =
  (words: (sequence: number) => readonly GroupRefusal[]) =>
  (page: GroupEntries): readonly GroupEntries[] => [
    {
      ...page,
      entries: page.entries.map((entry) => {
        if (entry.void === undefined) return entry;
        const { sequence } = entry.void;
        return { ...entry, void: { sequence, refusals: words(sequence) } };
      }),
    },
  ];

test.each(["nobody's word", "the word of whom it removes", "two others' words"] as const)(
  "whoever refused a removal believes that it is void by the words of those who stay: %s",
  async (whose) => {
    await using world = await World.start();
    const log = new TamperedLog();
    const alice = await newcomer(world, "Alice");
    const bob = await newcomer(world, "Bob", log);
    const [carol, dave] = [await newcomer(world, "Carol"), await newcomer(world, "Dave")];
    const device = await newcomer(world, "Mallory");
    const group = await flockOf(alice, bob, carol, dave, device);
    await group.setRole(device.id, "admin");
    const isAdmin = () =>
      inGroup(device, group.id)!
        .members()
        .some(({ role }) => role === "admin");
    await until(isAdmin, 20_000, "Mallory is an admin");
    await talkRound([alice, bob, carol, dave], group.id, "before");
    await device.stop();
    const mallory = new Outlaw(device, world.origin);
    const connection = await mallory.enter(group.id, mallory.cursorOf(group.id));
    const carols = parseAccountId(carol.id);
    const outlawed = mallory.group(group.id, unfollowable);
    const { leaf } = [...outlawed.members()].find(({ leafNode }) =>
      equalBytes(decodeMemberCredential(leafNode.credential).accountId, carols),
    )!;
    const [alices, carolsLeaf, daves] = [alice, carol, dave].map((one) => new Outlaw(one, world.origin));
    const witnesses = {
      "nobody's word": [],
      "the word of whom it removes": [carolsLeaf!, daves!],
      "two others' words": [alices!, daves!],
    };
    log.begin(
      withWords((sequence) => {
        const { message: commit } = storedLog(world, group.id).find((entry) => entry.sequence === sequence)!;
        return witnesses[whose].map((one) => refusalBy(one, group.id, { sequence, commit }));
      }),
    );

    const { message: commit, groupInfo } = outlawed.createCommit({
      proposals: [{ kind: "remove", removed: leaf }],
    });
    const { sequence } = await connection.demand(
      "groupCommitAccepted",
      commitFrame(group.id, { commit, groupInfo }),
    );

    await until(
      () => storedLog(world, group.id).some(({ voids }) => voids === sequence),
      20_000,
      "the commit is void",
    );
    // The others have the service's word as it is.
    await talkRound([alice, dave], group.id, "goes on");
    if (whose === "two others' words") {
      await talkRound([bob, alice], group.id, "so does Bob");
      expect(askedOfForks(bob)).toBe(0);
    } else {
      await until(() => askedOfForks(bob) === 1, 20_000, "Bob is asked");
      await expect(inGroup(bob, group.id)!.send({ text: "for Carol" })).rejects.toThrow("group/forked");
    }
  },
);
