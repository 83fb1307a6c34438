import { deviceId, parseAccountId } from "@murmuration/base";
import { connectTo, type Storage } from "@murmuration/client-core";
import {
  decodeMessage,
  formatDeviceAuth,
  PROTOBUF_CONTENT_TYPE,
  type PreKeyCounts,
  preKeyCounts,
  routePath,
} from "@murmuration/wire";
import { expect, test } from "vitest";
import { introduce, type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";

/** A device with what it shows the service to prove itself. */
async function joinWithToken(
  world: World,
  name: string,
  preKeyStock = 1,
): Promise<[SimulatedDevice, () => string]> {
  let opened: Storage | undefined;
  const device = await world.join(name, {
    settings: { preKeyStock },
    wrapStorage: (storage) => {
      opened = storage;
      return storage;
    },
  });
  const accountId = parseAccountId(device.id);
  const token = new Uint8Array(
    opened!.get("SELECT value FROM meta WHERE key = 'token'")!["value"] as Uint8Array,
  );
  return [device, () => formatDeviceAuth({ accountId, deviceId: deviceId(1), token })];
}

async function ask(world: World, authorization: string, method: string, path: string): Promise<Uint8Array> {
  const transport = connectTo(world.origin);
  const body = method === "POST" ? { body: new Uint8Array(0) } : {};
  const headers = { authorization, "content-type": PROTOBUF_CONTENT_TYPE };
  const reply = await transport.request({
    method,
    path,
    headers,
    ...body,
    maxReplyBytes: 65_536,
    timeoutMs: 5_000,
  });
  transport.close();
  expect(reply.status).toBe(200);
  return reply.body;
}

const stockOf = async (world: World, authorization: string): Promise<PreKeyCounts> =>
  decodeMessage(preKeyCounts, await ask(world, authorization, "GET", routePath("countKeys")), 1024);

test("attackers who take all one-time prekeys keep nobody from writing, and the stock is filled again", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice");
  const [bob, bobAuthorization] = await joinWithToken(world, "Bob", 100);
  const bobId = bob.id;
  await introduce(alice, bob);
  await bob.stop();

  // The service gives one caller only a few one-time keys of one account: it takes a crowd to empty the stock.
  const bundles = routePath("bundles", { accountId: bobId });
  for (let crowd = 0; (await stockOf(world, bobAuthorization())).oneTimePreKeys > 0; crowd++) {
    expect(crowd).toBeLessThan(60);
    const [attacker, authorization] = await joinWithToken(world, `Mallory ${crowd}`);
    for (let i = 0; i < 8; i++) await ask(world, authorization(), "POST", bundles);
    await attacker.stop();
  }

  await alice.client.conversations.direct(bobId).send({ text: "with the last resort" });
  await alice.client.outbox.settled();
  await bob.start();
  await until(() => textsOf(bob.client, alice.id).includes("with the last resort"));
  let stock = await stockOf(world, bobAuthorization());
  for (let tries = 0; stock.oneTimePreKeys < 100 && tries < 100; tries++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    stock = await stockOf(world, bobAuthorization());
  }
  expect(stock).toEqual({ oneTimePreKeys: 100, oneTimeKyberPreKeys: 100 });
});
