import { equalBytes, parseAccountId } from "@murmuration/base";
import {
  type CommitOptions,
  type CryptoProvider,
  decodeMemberCredential,
  type Group,
  openPolicy,
} from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { flockOf, inGroup, namesIn, newcomer, showsTwice, talkRound } from "../support/flock.ts";
import { bentCrypto, commitFrame, crypto, Outlaw } from "../support/outlaw.ts";
import type { RawConnection } from "../support/raw-connection.ts";
import { storedLog } from "../support/service-rows.ts";

/** Every MAC over a transcript hash is wrong: confirmation tags, in the commit and in its GroupInfo alike. */
const wrongConfirmationTag = bentCrypto((honest) => ({
  mac: (key, data) => {
    const tag = honest.mac(key, data);
    if (data.length === honest.suite.hashLength) tag[0]! ^= 1;
    return tag;
  },
}));

/** MACs over anything longer are wrong: membership tags. */
const wrongMembershipTag = bentCrypto((honest) => ({
  mac: (key, data) => {
    const tag = honest.mac(key, data);
    if (data.length !== honest.suite.hashLength) tag[0]! ^= 1;
    return tag;
  },
}));

/** What is sealed to some of the leaves cannot be opened. */
function wrongPathSecrets(isSpoilt: (place: number) => boolean): CryptoProvider {
  let place = 0;
  return bentCrypto((honest) => ({
    hpkeSeal: (...given) => {
      const sealed = honest.hpkeSeal(...given);
      if (isSpoilt(place++)) sealed.ciphertext[0]! ^= 1;
      return sealed;
    },
  }));
}

interface Scene {
  readonly honest: readonly SimulatedDevice[];
  readonly id: string;
  /** Mallory's leaf, worked by hand. */
  readonly mallory: Outlaw;
  readonly connection: RawConnection;
}

/** Four honest members and one who writes a program of his own. */
async function scene(world: World, role: "admin" | "member" = "member"): Promise<Scene> {
  const honest = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
    await newcomer(world, "Dave"),
  ] as const;
  const device = await newcomer(world, "Mallory");
  const group = await flockOf(...honest, device);
  await talkRound([...honest, device], group.id, "before");
  if (role === "admin") {
    await group.setRole(device.id, role);
    const isAdmin = () =>
      inGroup(device, group.id)!
        .members()
        .some((member) => member.role === role);
    await until(isAdmin, 20_000, "Mallory is an admin");
  }
  await device.stop();
  const mallory = new Outlaw(device, world.origin);
  const connection = await mallory.enter(group.id, mallory.cursorOf(group.id));
  return { honest, id: group.id, mallory, connection };
}

/** Commits what the service cannot see through. Returns the number of the commit. */
async function commitAs(
  { mallory, connection, id }: Scene,
  provider: CryptoProvider,
  options?: (group: Group) => CommitOptions,
): Promise<number> {
  const group = mallory.group(id, provider);
  const { message: commit, groupInfo } = group.createCommit(options?.(group));
  const { sequence } = await connection.demand("groupCommitAccepted", commitFrame(id, { commit, groupInfo }));
  return sequence;
}

const isVoid = (world: World, id: string, sequence: number) =>
  storedLog(world, id).some(({ voids }) => voids === sequence);

const commitsBehind = (world: World, id: string, after: number) =>
  storedLog(world, id).filter(({ kind, sequence }) => kind === "commit" && sequence > after).length;

/** Everybody who is honest is in one group, and has seen everything once. */
async function expectOneGroup({ honest, id }: Scene): Promise<void> {
  await talkRound(honest, id, "after");
  for (const member of honest) {
    expect(namesIn(member, id)).toEqual(["Alice", "Bob", "Carol", "Dave", "Mallory"]);
    expect(showsTwice(member, id)).toEqual([]);
    expect(textsOf(member.client, id)).toHaveLength(9);
  }
}

test.each([
  { name: "confirmation tag", provider: wrongConfirmationTag },
  { name: "membership tag", provider: wrongMembershipTag },
])("a commit with a wrong $name is taken back, and its committer commits no more", async ({ provider }) => {
  await using world = await World.start();
  const set = await scene(world);
  const { honest, id, mallory, connection } = set;

  const sequence = await commitAs(set, provider);

  await until(() => isVoid(world, id, sequence), 20_000, "the commit is void");
  await expectOneGroup(set);
  // Nobody had to leave and come back for it.
  expect(commitsBehind(world, id, sequence)).toBe(0);

  const next = mallory.group(id).createCommit();
  expect(
    await connection.refusalOf(commitFrame(id, { commit: next.message, groupInfo: next.groupInfo })),
  ).toBe("group/not-allowed");
  // An admin's commit lifts that.
  await inGroup(honest[0]!, id)!.setTitle("Starlings");
  await until(() => honest.every((member) => inGroup(member, id)?.title === "Starlings"));
});

test("path secrets that only half of the members can open leave everybody in one group", async () => {
  await using world = await World.start();
  const set = await scene(world);

  const sequence = await commitAs(
    set,
    wrongPathSecrets((place) => place % 2 === 1),
  );

  // Those who can follow vouch for it, unless the others are faster: then it is taken back.
  const shutOut = () => set.honest.filter(({ client }) => client.communityCosts.refusedCommits > 0).length;
  await until(() => shutOut() === 2, 20_000, "two members refuse");
  await until(
    () => isVoid(world, set.id, sequence) || commitsBehind(world, set.id, sequence) >= shutOut(),
    40_000,
    "the commit is void, or both have come back",
  );
  await expectOneGroup(set);
});

test("path secrets that nobody can open are taken back", async () => {
  await using world = await World.start();
  const set = await scene(world);

  const sequence = await commitAs(
    set,
    wrongPathSecrets(() => true),
  );

  await until(() => isVoid(world, set.id, sequence), 20_000, "the commit is void");
  await expectOneGroup(set);
});

test("a removal that nobody can open is taken back, and those who stay go on without being asked", async () => {
  await using world = await World.start();
  const set = await scene(world, "admin");
  const [alice, bob, carol, dave] = set.honest;
  const daves = parseAccountId(dave!.id);

  const sequence = await commitAs(
    set,
    wrongPathSecrets(() => true),
    (group) => {
      const { leaf } = [...group.members()].find(({ leafNode }) =>
        equalBytes(decodeMemberCredential(leafNode.credential).accountId, daves),
      )!;
      return { proposals: [{ kind: "remove", removed: leaf }] };
    },
  );

  await until(() => isVoid(world, set.id, sequence), 20_000, "the commit is void");
  const members = [alice!, bob!, carol!];
  await talkRound(members, set.id, "after");
  for (const member of members) {
    expect(namesIn(member, set.id)).toEqual(["Alice", "Bob", "Carol", "Dave", "Mallory"]);
    expect(showsTwice(member, set.id)).toEqual([]);
    const asked = member.client.events.read(0, 1_000).filter(({ kind }) => kind === "decision-needed");
    expect(asked).toEqual([]);
  }
});

test("a commit under a key that an admin has made up is refused by the service", async () => {
  await using world = await World.start();
  const set = await scene(world, "admin");
  const { honest, id, mallory, connection } = set;
  const psk = { kind: "external", pskId: new Uint8Array(32), pskNonce: new Uint8Array(32) } as const;
  const group = mallory.group(id, crypto, { policy: openPolicy, psks: () => new Uint8Array(32) });
  const { message: commit, groupInfo } = group.createCommit({ proposals: [{ kind: "psk", psk }] });
  expect(await connection.refusalOf(commitFrame(id, { commit, groupInfo }))).toBe("group/commit-invalid");
  // It was for the key.
  await commitAs(set, crypto);
  await talkRound(honest, id, "after");
});
