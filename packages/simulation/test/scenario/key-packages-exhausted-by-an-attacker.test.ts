import { type Bytes, parseAccountId, toHex } from "@murmuration/base";
import { formatDeviceAuth, type KeyPackageClaimReply, limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import { call } from "../../../delivery-service/test/support/test-device.ts";
import { introduce, type SimulatedDevice, testLimits, until, World } from "../../src/index.ts";
import { communitySettings, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";

const headersOf = (device: SimulatedDevice, world: World) => ({
  authorization: formatDeviceAuth(new Outlaw(device, world.origin).auth),
});

/** Claims KeyPackages of a device as another account; what was handed out, in order. */
async function claim(world: World, thief: SimulatedDevice, victim: SimulatedDevice, times: number) {
  const headers = headersOf(thief, world);
  const body = { accountIds: [parseAccountId(victim.id)] };
  const taken: string[] = [];
  for (let time = 0; time < times; time++) {
    const answer = await call(world.origin, "claimKeyPackages", { headers, body });
    const { accounts } = answer.body as unknown as KeyPackageClaimReply;
    taken.push(...accounts[0]!.keyPackages.map(({ keyPackage }: { keyPackage: Bytes }) => toHex(keyPackage)));
  }
  return taken;
}

async function stockOf(world: World, device: SimulatedDevice): Promise<number> {
  const { body } = await call(world.origin, "countKeyPackages", { headers: headersOf(device, world) });
  return body["keyPackages"] as number;
}

test("who claims again and again gets the last-resort KeyPackage; the owner is added by it twice, and fills up", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
  ];
  const mallory = await newcomer(world, "Mallory");
  await introduce(alice, bob, carol);
  await bob.client.connection.stop();

  const taken = await claim(world, mallory, bob, 12);
  expect(taken).toHaveLength(12);
  expect(new Set(taken.slice(0, communitySettings.keyPackageStock)).size).toBe(
    communitySettings.keyPackageStock,
  );
  expect(new Set(taken.slice(communitySettings.keyPackageStock)).size).toBe(1);

  // Two groups add Bob while he is away, by the same KeyPackage.
  const create = (device: SimulatedDevice, title: string) =>
    device.client.conversations.createGroup({ title, members: [bob.id], protocol: "mls" });
  const [first, second] = [await create(alice, "First"), await create(carol, "Second")];
  bob.client.connection.start();
  await until(() => inGroup(bob, first.id)?.title === "First", 30_000, "Bob is in the first group");
  await until(() => inGroup(bob, second.id)?.title === "Second", 30_000, "Bob is in the second group");
  await talkRound([alice, bob], first.id, "hello");
  await talkRound([carol, bob], second.id, "hello");
  await expect.poll(() => stockOf(world, bob), { timeout: 20_000 }).toBe(communitySettings.keyPackageStock);
});

test("an owner who is there is told when its KeyPackages run out, and makes new ones", async () => {
  await using world = await World.start();
  const [bob, mallory] = [await newcomer(world, "Bob"), await newcomer(world, "Mallory")];
  const all = new Set<string>();
  for (let round = 0; round < 3; round++) {
    for (const one of await claim(world, mallory, bob, communitySettings.keyPackageStock)) all.add(one);
    await expect.poll(() => stockOf(world, bob), { timeout: 20_000 }).toBe(communitySettings.keyPackageStock);
  }
  expect(all.size).toBe(3 * communitySettings.keyPackageStock);
});

test("at the product's rates one account cannot empty the stock of another", async () => {
  const { claimsPerPair } = limits.rates;
  const rates = { ...testLimits.rates, claimsPerPair };
  await using world = await World.start({ service: { limits: { ...testLimits, rates } } });
  const stock = claimsPerPair.burst + 5;
  const bob = await newcomer(world, "Bob", { settings: { keyPackageStock: stock } });
  const [alice, mallory] = [await newcomer(world, "Alice"), await newcomer(world, "Mallory")];
  await bob.client.connection.stop();

  await claim(world, mallory, bob, 40);

  expect(await stockOf(world, bob)).toBe(stock - claimsPerPair.burst);
  expect(new Set(await claim(world, alice, bob, 2)).size).toBe(2);
});

test("whoever has no KeyPackage at all is named to the one who adds, and the others are added", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
  ];
  await introduce(alice, bob, carol);
  // Registered, and never connected since: nothing was uploaded.
  const dave = world.device({ settings: communitySettings });
  await (await dave.open()).register({ name: "Dave" });
  const nobody = Buffer.alloc(16, 7).toString("base64url");
  const missing = [
    { accountId: dave.id, code: "key-packages/none" },
    { accountId: nobody, code: "accounts/unknown" },
  ];
  const title = "Herd";
  const herd = await alice.client.conversations.createGroup({
    title,
    members: [dave.id, bob.id, nobody],
    protocol: "mls",
  });
  expect(herd.leftOut).toEqual(missing);
  expect(await herd.add([dave.id])).toEqual(missing.slice(0, 1));
  expect(herd.leftOut).toEqual(missing.slice(1));

  const group = await flockOf(alice);
  expect(await group.add([bob.id, dave.id, nobody, carol.id])).toEqual(missing);
  expect(group.leftOut).toEqual([]);
  await until(
    () => [bob, carol].every((device) => inGroup(device, group.id) !== undefined),
    20_000,
    "they are in",
  );
  await talkRound([alice, bob, carol], group.id, "hello");
  expect(inGroup(alice, group.id)?.memberCount).toBe(3);

  // Once Dave has been there he can be added.
  dave.client.connection.start();
  await dave.client.connection.caughtUp();
  await expect.poll(() => stockOf(world, dave), { timeout: 20_000 }).toBeGreaterThan(0);
  expect(await group.add([dave.id])).toEqual([]);
  await until(() => inGroup(dave, group.id) !== undefined, 20_000, "Dave is in");
});
