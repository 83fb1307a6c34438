import type { Replacements } from "@murmuration/delivery-service";
import { communityLeaf, createJoinTicket, encodeJoinTicket } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { type InviteLink, parseInviteLink } from "../../../client-core/src/core/invite-link.ts";
import { createInProcessValidator } from "../../../delivery-service/src/adapters/in-process-validator.ts";
import { FrameTap, ShiftedClock, type SimulatedDevice, until, World } from "../../src/index.ts";
import { flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { commitFrame, crypto, Outlaw } from "../support/outlaw.ts";
import { RawConnection } from "../support/raw-connection.ts";
import { askedOfForks } from "../support/refusals.ts";
import { storedLog } from "../support/service-rows.ts";

const HOUR_S = 3_600;
const HOUR_MS = 3_600_000;
/** More than members allow for clocks. */
const LATE_MS = HOUR_MS + 180_000;

/** The service and all who come live by one clock, which a story moves on. */
async function start(replacements?: () => Replacements) {
  const clock = new ShiftedClock();
  const world = await World.start({ serviceClock: clock, ...(replacements && { replacements }) });
  const join = (name: string, options: Parameters<typeof newcomer>[2] = {}) =>
    newcomer(world, name, { environment: clock.environment, ...options });
  return { clock, world, join };
}

/** A service that keeps every rule of communities, and takes no link to expire. */
const forgetful = (): Replacements => {
  const validator = createInProcessValidator();
  return {
    validator: {
      ...validator,
      async verifyLink(...asked) {
        const link = await validator.verifyLink(...asked);
        return link && { ...link, expiresAtMs: 0 };
      },
      async commit(...asked) {
        return { ...(await validator.commit(...asked)), joinedBy: undefined };
      },
    },
  };
};

/** Comes in by a link, whatever this device's client would say of it. Returns the number of the commit. */
async function comesBy(link: InviteLink, device: SimulatedDevice, world: World, id: string): Promise<number> {
  const outlaw = new Outlaw(device, world.origin);
  const connection = await RawConnection.open(world.origin);
  const info = await outlaw.groupInfo(connection, id, link);
  const { groupId, linkId, seed: linkSeed } = link;
  const { publicKey: signatureKey } = outlaw.identity.signatureKeys;
  const ticket = encodeJoinTicket(createJoinTicket(crypto, { groupId, linkId, linkSeed, signatureKey }));
  const joined = await outlaw.externalCommit(info, { ...communityLeaf, extensions: [ticket] });
  const { sequence } = await connection.demand("groupCommitAccepted", commitFrame(id, joined));
  return sequence;
}

test("a link lets in until it expires and nobody from then on; another one has a time of its own", async () => {
  const { clock, join, world: started } = await start();
  await using _ = started;
  const alice = await join("Alice");
  const [bob, carol] = [await join("Bob"), await join("Carol")];
  const group = await flockOf(alice);
  const before = clock.now();
  const { url = "", linkId, expiresAtMs } = await group.community.createLink({ expiresInSeconds: HOUR_S });
  expect(expiresAtMs).toBeGreaterThanOrEqual(before + HOUR_MS);
  expect(expiresAtMs).toBeLessThanOrEqual(clock.now() + HOUR_MS);
  expect(group.community.links()).toMatchObject([{ linkId, expiresAtMs }]);

  // The canary: a moment before it expires the same link is a door.
  clock.offsetMs = HOUR_MS - 30_000;
  await bob.client.conversations.join(url);
  await talkRound([alice, bob], group.id, "in time");
  expect(inGroup(bob, group.id)!.community.links()).toMatchObject([{ linkId, expiresAtMs, url: undefined }]);

  clock.offsetMs = HOUR_MS;
  await expect(carol.client.conversations.join(url)).rejects.toThrow("group/link-expired");
  expect(carol.client.conversations.list()).toEqual([]);
  expect(namesIn(alice, group.id)).toEqual(["Alice", "Bob"]);

  const renewed = await group.community.createLink({ expiresInSeconds: HOUR_S });
  expect(renewed.expiresAtMs).toBeGreaterThanOrEqual(expiresAtMs + HOUR_MS - 1_000);
  await carol.client.conversations.join(renewed.url!);
  await talkRound([alice, bob, carol], group.id, "by the new one");
  // The old one is what it was.
  const dave = await join("Dave");
  await expect(dave.client.conversations.join(url)).rejects.toThrow("group/link-expired");
});

test("where the service lets somebody in by an expired link all the same, members refuse, and go on without him", async () => {
  const { clock, join, world: started } = await start(forgetful);
  await using world = started;
  const taps = [new FrameTap(), new FrameTap(), new FrameTap()] as const;
  const members = [
    await join("Alice", taps[0]),
    await join("Bob", taps[1]),
    await join("Carol", taps[2]),
  ] as const;
  const [dave, erin] = [await join("Dave"), await join("Erin")];
  const group = await flockOf(...members);
  const [forGood, hour] = [
    parseInviteLink((await group.community.createLink()).url!),
    parseInviteLink((await group.community.createLink({ expiresInSeconds: HOUR_S })).url!),
  ];
  await talkRound(members, group.id, "before");
  clock.offsetMs = LATE_MS;

  // The canary: by the link that never expires Dave comes in, in the same way, at the same time.
  await comesBy(forGood, dave, world, group.id);
  const inside = [...members, dave].map(({ id }) => id).sort();
  const idsIn = (member: SimulatedDevice) =>
    inGroup(member, group.id)!
      .members()
      .map(({ accountId }) => accountId)
      .sort();
  await until(() => members.every((member) => idsIn(member).length === 4), 20_000, "Dave is in");

  const sequence = await comesBy(hour, erin, world, group.id);
  const refused = (tap: FrameTap) =>
    tap.sent.some((frame) => frame.kind === "groupRefuse" && frame.sequence === sequence);
  await until(() => taps.every(refused), 20_000, "everybody refuses");
  await until(() => storedLog(world, group.id).some(({ voids }) => voids === sequence), 20_000, "it is void");
  await talkRound(members, group.id, "after");
  for (const member of members) {
    expect(idsIn(member)).toEqual(inside);
    expect(askedOfForks(member)).toBe(0);
  }
});

test("who waits for approval by a link that expires meanwhile is not shown any more, and cannot be let in", async () => {
  const { clock, join, world: started } = await start();
  await using _ = started;
  const alice = await join("Alice");
  const bob = await join("Bob");
  const group = await flockOf(alice);
  const { url = "" } = await group.community.createLink({ approval: true, expiresInSeconds: HOUR_S });
  await expect(bob.client.conversations.join(url, { timeoutMs: 300 })).rejects.toThrow(
    "link/approval-pending",
  );
  await until(() => group.community.joinRequests().length === 1, 20_000, "Alice has the request");
  clock.offsetMs = HOUR_MS;
  expect(group.community.joinRequests()).toEqual([]);
  await expect(group.community.approveJoin(bob.id)).rejects.toThrow("group/no-such-request");
  await expect(bob.client.conversations.join(url)).rejects.toThrow("group/link-expired");
  expect(bob.client.conversations.list()).toEqual([]);
});

test("a link is for a second to a year, and expired ones give way when there is no room for another", async () => {
  const { clock, join, world: started } = await start();
  await using _ = started;
  const alice = await join("Alice");
  const { community } = await flockOf(alice);
  for (const expiresInSeconds of [0, -1, 0.5, Number.NaN, 365 * 86_400 + 1])
    await expect(community.createLink({ expiresInSeconds })).rejects.toThrow("link/bad-expiry");
  expect(community.links()).toEqual([]);

  const { linkId: forGood } = await community.createLink();
  const { linkId: longest } = await community.createLink({ expiresInSeconds: 365 * 86_400 });
  for (let n = 0; n < 14; n++) await community.createLink({ expiresInSeconds: HOUR_S });
  await expect(community.createLink()).rejects.toThrow("community/context-invalid");
  clock.offsetMs = HOUR_MS;
  expect(community.links()).toHaveLength(16);
  const { linkId: newest } = await community.createLink();
  expect(
    community
      .links()
      .map(({ linkId }) => linkId)
      .sort(),
  ).toEqual([forGood, longest, newest].sort());
});
