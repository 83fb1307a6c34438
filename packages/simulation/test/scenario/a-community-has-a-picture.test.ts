import { expect, test } from "vitest";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { flockOf, inGroup, newcomer } from "../support/flock.ts";

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
