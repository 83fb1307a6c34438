/**
 * Live, both ways, with ts-mls 2.0.0-rc.10: what one emits the other must follow. Where ts-mls departs from the
 * RFC the stories go round it: it forgets the path of a single removal, it joins only while no two ancestors of a
 * leaf differ in unmerged_leaves, and its external_pub has no length.
 */
import { beforeAll, describe, expect, test } from "vitest";
import { type CommitRequest, Ours, type Participant, prepareTsMls, Theirs } from "../mixed-group.ts";

beforeAll(prepareTsMls);

/** One member commits, the others follow, and all agree on the epoch and on what it exports. */
async function commitAndAgree(members: readonly Participant[], by: Participant, request: CommitRequest = {}) {
  const made = await by.commit(request);
  for (const member of members) if (member !== by) await member.handle(made.commit);
  await expectAgreement(members);
  return made;
}

async function expectAgreement(members: readonly Participant[]): Promise<void> {
  const [first, ...others] = await Promise.all(members.map((member) => member.agreement()));
  for (const other of others) expect(other).toBe(first);
}

async function everybodyTalks(members: readonly Participant[]): Promise<void> {
  for (const sender of members) {
    const message = await sender.send(`from ${sender.name}`);
    for (const member of members) {
      if (member !== sender) expect(await member.handle(message)).toBe(`from ${sender.name}`);
    }
  }
}

async function addAndJoin(
  members: readonly Participant[],
  by: Participant,
  newcomers: readonly { message: Uint8Array; join: (welcome: Uint8Array) => Promise<Participant> }[],
): Promise<Participant[]> {
  const { welcome } = await commitAndAgree(members, by, { adds: newcomers.map(({ message }) => message) });
  const joined = await Promise.all(newcomers.map(({ join }) => join(welcome!)));
  const all = [...members, ...joined];
  await expectAgreement(all);
  return all;
}

describe.each([
  ["public", false],
  ["private", true],
])("with handshakes as %s messages", (_, encrypted) => {
  test("our member joins the group of ts-mls, and both commit, with a PSK too", async () => {
    const host = await Theirs.create("host", encrypted);
    const members = await addAndJoin([host], host, [Ours.newcomer("guest", encrypted)]);
    await everybodyTalks(members);
    for (const by of [...members, ...members]) await commitAndAgree(members, by);
    for (const by of members) await commitAndAgree(members, by, { psk: true });
    await everybodyTalks(members);
  });

  test("ts-mls joins our group of four in one Welcome, and each member commits twice", async () => {
    const host = Ours.create("host", encrypted);
    const newcomers = [
      await Theirs.newcomer("t1", encrypted),
      Ours.newcomer("o1", encrypted),
      await Theirs.newcomer("t2", encrypted),
    ];
    const members = await addAndJoin([host], host, newcomers);
    for (const by of [...members, ...members]) await commitAndAgree(members, by);
    await everybodyTalks(members);
  });

  test("ts-mls follows our removal, and the removed ts-mls member cannot read on", async () => {
    const host = Ours.create("host", encrypted);
    const newcomers = [await Theirs.newcomer("stays", encrypted), await Theirs.newcomer("goes", encrypted)];
    const [, stays, goes] = await addAndJoin([host], host, newcomers);
    for (const by of [host, stays!, goes!]) await commitAndAgree([host, stays!, goes!], by);
    await commitAndAgree([host, stays!], host, { removes: [2] });
    const message = await host.send("after the removal");
    await expect(goes!.handle(message)).rejects.toThrow();
    expect(await stays!.handle(message)).toBe("after the removal");
  });
});

describe("external commits", () => {
  test("ts-mls joins our group of three from its GroupInfo", async () => {
    const host = Ours.create("host", false);
    const newcomers = [Ours.newcomer("o1", false), await Theirs.newcomer("t1", false)];
    const members = await addAndJoin([host], host, newcomers);
    const { member, commit } = await Theirs.joinExternally("outside", await host.groupInfo());
    for (const each of members) await each.handle(commit);
    await expectAgreement([...members, member]);
    await everybodyTalks([...members, member]);
  });

  test("we join the group of ts-mls from its GroupInfo", async () => {
    const host = await Theirs.create("host", false);
    const members = await addAndJoin([host], host, [await Theirs.newcomer("t1", false)]);
    const { member, commit } = Ours.joinExternally("outside", await host.groupInfo());
    for (const each of members) await each.handle(commit);
    const all = [...members, member];
    await expectAgreement(all);
    for (const by of all) await commitAndAgree(all, by);
    await everybodyTalks(all);
  });
});

test("nine members of both engines stay in agreement while ours join, leave and commit among them", async () => {
  const host = Ours.create("host", false);
  const first = await Promise.all([1, 2, 3, 4].map((n) => Theirs.newcomer(`t${n}`, false)));
  let members = await addAndJoin([host], host, [...first, Ours.newcomer("o1", false)]);
  for (const [round, by] of [...members, ...members].entries()) {
    await commitAndAgree(members, by);
    if (round % 4 === 1) members = await addAndJoin(members, by, [Ours.newcomer(`late-${round}`, false)]);
    if (round % 4 === 3) {
      // One of our late members goes; ours commits it, since ts-mls would leave the path out.
      const leaving = members.find(({ name }) => name.startsWith("late-")) as Ours;
      const staying = members.filter((member) => member !== leaving);
      await commitAndAgree(staying, host, { removes: [leaving.group.ownLeaf] });
      members = staying;
    }
  }
  await everybodyTalks(members);
});
