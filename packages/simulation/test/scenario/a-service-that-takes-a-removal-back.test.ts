import { expect, test } from "vitest";
import { FrameTap, type SimulatedDevice, until, World } from "../../src/index.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { allShow, flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";
import { askedOfForks, newestCommit, refusalBy, takeBack } from "../support/refusals.ts";

const noticesOf = (device: SimulatedDevice, group: string) =>
  inGroup(device, group)!
    .history({ limit: 1_000 })
    .flatMap((line) => (line.kind === "notice" ? [line.notice.code] : []));

test.each(["remove", "ban"] as const)(
  "what was said after somebody was shut out is not said again to who was, though two accomplices sign for it: %s",
  async (how) => {
    await using world = await World.start();
    const [log, tap] = [new TamperedLog(), new FrameTap()];
    const alice = await newcomer(world, "Alice");
    const bob = await newcomer(world, "Bob", {
      wrapTransport: (transport) => tap.wrapTransport(log.wrapTransport(transport)),
    });
    const carol = await newcomer(world, "Carol");
    const [mia, max] = [await newcomer(world, "Mia"), await newcomer(world, "Max")];
    const group = await flockOf(alice, bob, carol, mia, max);
    if (how === "remove") await group.remove(carol.id);
    else await group.community.ban(carol.id);
    await until(() => namesIn(bob, group.id).length === 4, 20_000, "Bob sees the removal");
    await talkRound([alice, bob], group.id, "without Carol");
    await bob.client.outbox.settled();
    const inside = ["Alice", "Bob", "Max", "Mia"];
    const submits = () => tap.sent.filter(({ kind }) => kind === "groupSubmit").length;
    const before = submits();

    const about = newestCommit(log);
    const refusals = [mia, max].map((device) => refusalBy(new Outlaw(device, world.origin), group.id, about));
    takeBack(log, group.id, about.sequence, refusals);

    await until(() => askedOfForks(bob) === 1, 20_000, "Bob is asked");
    await expect(inGroup(bob, group.id)!.send({ text: "for Alice" })).rejects.toThrow("group/forked");
    expect(submits()).toBe(before);
    expect(namesIn(bob, group.id)).toEqual(inside);
    // Nor does a restart bring it back.
    await bob.stop();
    await bob.start();
    await bob.client.connection.caughtUp();
    expect(namesIn(bob, group.id)).toEqual(inside);
    await inGroup(bob, group.id)!.community.heal();
    await talkRound([alice, bob], group.id, "healed");
    expect(namesIn(bob, group.id)).toEqual(inside);
  },
);

test("any other change is taken back by two members who sign for it, and leaves a line that says so", async () => {
  await using world = await World.start();
  const log = new TamperedLog();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", log);
  const carol = await newcomer(world, "Carol");
  const dave = await newcomer(world, "Dave");
  const group = await flockOf(alice, bob, carol, dave);
  await group.setRole(carol.id, "admin");
  await until(() => noticesOf(bob, group.id).includes("group/role-changed"), 20_000, "Bob sees the role");
  await group.send({ text: "hello" });
  await allShow([bob], group.id, "hello");

  const about = newestCommit(log);
  const refusals = [carol, dave].map((device) =>
    refusalBy(new Outlaw(device, world.origin), group.id, about),
  );
  takeBack(log, group.id, about.sequence, refusals);

  await until(() => noticesOf(bob, group.id).at(-1) === "group/change-taken-back", 20_000, "Bob is told");
  expect(
    inGroup(bob, group.id)!
      .members()
      .map(({ role }) => role),
  ).not.toContain("admin");
  expect(askedOfForks(bob)).toBe(0);
});
