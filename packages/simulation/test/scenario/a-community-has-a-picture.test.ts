import type { Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { ShiftedClock, type SimulatedDevice, until, World } from "../../src/index.ts";
import { flockOf, inGroup, newcomer } from "../support/flock.ts";

const DAY_MS = 86_400_000;

async function pictureOn(device: SimulatedDevice, group: string): Promise<string | undefined> {
  const picture = inGroup(device, group)!.community.picture;
  if (picture === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  for await (const chunk of device.client.attachments.download(picture)) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

test("a picture is set, seen by members and newcomers, outlives a new title, and is taken away", async () => {
  await using world = await World.start();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const carol = await newcomer(world, "Carol");
  const group = await flockOf(alice, bob);
  const upload = (bytes: Uint8Array) => alice.client.attachments.upload({ bytes, contentType: "image/png" });
  const huge = { ...(await upload(Buffer.from("x"))), size: 1024 * 1024 + 1 };
  await expect(group.community.setPicture(huge)).rejects.toThrow("attachment/too-large");

  await group.community.setPicture(await upload(Buffer.from("a starling")));
  await until(() => inGroup(bob, group.id)!.community.picture !== undefined, 20_000, "Bob has the picture");
  expect(await pictureOn(bob, group.id)).toBe("a starling");
  await group.setTitle("Murmuration");
  await group.add([carol.id]);
  await until(() => inGroup(carol, group.id)?.title === "Murmuration", 20_000, "Carol is in");
  expect(await pictureOn(carol, group.id)).toBe("a starling");

  const pictures = () => [alice, bob, carol].map((device) => inGroup(device, group.id)!.community.picture);
  await expect(inGroup(bob, group.id)!.community.setPicture(undefined)).rejects.toThrow(/^community\//);
  await group.community.setPicture(undefined);
  await until(() => pictures().every((picture) => picture === undefined), 20_000, "nobody has a picture");
  expect(inGroup(carol, group.id)!.title).toBe("Murmuration");
});

/** A link that counts what is uploaded. */
class Uploads {
  count = 0;

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: (request: Parameters<Transport["request"]>[0]) => {
        if (request.method === "PUT" && request.path.startsWith("/v1/blobs/")) this.count++;
        return transport.request(request);
      },
      close: () => transport.close(),
    });
}

// The fault that this finds: a month after it was set nobody who comes can load the picture any more.
test("a picture stays at the service for as long as an owner or admin comes by, and no plain member uploads it", async () => {
  const clock = new ShiftedClock();
  await using world = await World.start({ serviceClock: clock });
  const environment = clock.oftenLookedAt;
  const [ofAlice, ofBob] = [new Uploads(), new Uploads()];
  const alice = await newcomer(world, "Alice", { environment, wrapTransport: ofAlice.wrapTransport });
  const bob = await newcomer(world, "Bob", { environment, wrapTransport: ofBob.wrapTransport });
  const group = await flockOf(alice, bob);
  const picture = await alice.client.attachments.upload({ bytes: Buffer.from("a starling") });
  await group.community.setPicture(picture);
  await until(() => inGroup(bob, group.id)!.community.picture !== undefined, 20_000, "Bob has the picture");
  expect(ofAlice.count).toBe(1);

  for (const uploads of [2, 3]) {
    // It has seen the picture, or its last upload, before time passes.
    await new Promise((resolve) => setTimeout(resolve, 600));
    clock.offsetMs += 20 * DAY_MS;
    await until(() => ofAlice.count === uploads, 20_000, "it is uploaded again");
    await world.runRetention();
    expect(await pictureOn(bob, group.id)).toBe("a starling");
  }
  await new Promise((resolve) => setTimeout(resolve, 600));
  expect([ofAlice.count, ofBob.count]).toEqual([3, 0]);

  const carol = await newcomer(world, "Carol", { environment });
  await alice.client.contacts.add(carol.client.account!.contactCard);
  await group.add([carol.id]);
  await until(() => inGroup(carol, group.id)?.community.picture !== undefined, 20_000, "Carol is in");
  expect(await pictureOn(carol, group.id)).toBe("a starling");

  // Nobody is there for a month but a plain member: it is gone, and whoever looks is told so.
  await alice.stop();
  clock.offsetMs += 31 * DAY_MS;
  await world.runRetention();
  await expect(pictureOn(bob, group.id)).rejects.toThrow("blob/unknown");
  expect(ofBob.count).toBe(0);
}, 120_000);
