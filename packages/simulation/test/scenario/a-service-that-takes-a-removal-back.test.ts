import { parseGroupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { FrameTap, type SimulatedDevice, until, World } from "../../src/index.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { allShow, flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";

/** Tells the client that the newest commit counts no longer, which nobody has refused. */
function takeBack(log: TamperedLog, group: string): void {
  const entries = log.sent.flatMap((page) => page.entries);
  const { sequence } = entries.findLast(({ commit }) => commit !== undefined)!;
  const next = entries.at(-1)!.sequence + 1;
  const entry = { sequence: next, serverTimeMs: Date.now(), void: { sequence } };
  log.inject({ groupId: parseGroupId(group), entries: [entry], lastSequence: next });
}

const noticesOf = (device: SimulatedDevice, group: string) =>
  inGroup(device, group)!
    .history({ limit: 1_000 })
    .flatMap((line) => (line.kind === "notice" ? [line.notice.code] : []));

const asked = ({ client }: SimulatedDevice) =>
  client.events
    .read(0, 1_000)
    .filter((event) => event.kind === "decision-needed" && event.code === "group/forked").length;

test.each(["remove", "ban"] as const)(
  "what was said after somebody was shut out is not said again to who was, whatever the service takes back: %s",
  async (how) => {
    await using world = await World.start();
    const [log, tap] = [new TamperedLog(), new FrameTap()];
    const alice = await newcomer(world, "Alice");
    const bob = await newcomer(world, "Bob", {
      wrapTransport: (transport) => tap.wrapTransport(log.wrapTransport(transport)),
    });
    const carol = await newcomer(world, "Carol");
    const group = await flockOf(alice, bob, carol);
    if (how === "remove") await group.remove(carol.id);
    else await group.community.ban(carol.id);
    await until(() => namesIn(bob, group.id).length === 2, 20_000, "Bob sees the removal");
    await talkRound([alice, bob], group.id, "without Carol");
    await bob.client.outbox.settled();
    const submits = () => tap.sent.filter(({ kind }) => kind === "groupSubmit").length;
    const before = submits();

    takeBack(log, group.id);

    await until(() => asked(bob) === 1, 20_000, "Bob is asked");
    await expect(inGroup(bob, group.id)!.send({ text: "for Alice" })).rejects.toThrow("group/forked");
    expect(submits()).toBe(before);
    expect(namesIn(bob, group.id)).toEqual(["Alice", "Bob"]);
    // Nor does a restart bring it back.
    await bob.stop();
    await bob.start();
    await bob.client.connection.caughtUp();
    expect(namesIn(bob, group.id)).toEqual(["Alice", "Bob"]);
    await inGroup(bob, group.id)!.community.heal();
    await talkRound([alice, bob], group.id, "healed");
    expect(namesIn(bob, group.id)).toEqual(["Alice", "Bob"]);
  },
);

test("a change that is taken back leaves a line that says so", async () => {
  await using world = await World.start();
  const log = new TamperedLog();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", log);
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob, carol);
  await group.setRole(carol.id, "admin");
  await until(() => noticesOf(bob, group.id).includes("group/role-changed"), 20_000, "Bob sees the role");
  await group.send({ text: "hello" });
  await allShow([bob], group.id, "hello");

  takeBack(log, group.id);

  await until(() => noticesOf(bob, group.id).at(-1) === "group/change-taken-back", 20_000, "Bob is told");
  expect(
    inGroup(bob, group.id)!
      .members()
      .map(({ role }) => role),
  ).not.toContain("admin");
  expect(asked(bob)).toBe(0);
});
