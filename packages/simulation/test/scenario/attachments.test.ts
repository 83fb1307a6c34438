import { randomBytes } from "node:crypto";
import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

async function collect(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

test("an attachment travels encrypted, and any byte changed at the service is noticed before it is given out", async () => {
  await using world = await World.start();
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  await introduce(alice, bob);
  for (const size of [0, 1, 541, 70_000, 400_000]) {
    const bytes = new Uint8Array(randomBytes(size));
    const pointer = await alice.client.attachments.upload({
      bytes,
      contentType: "image/png",
      fileName: "bird.png",
    });
    expect(await collect(bob.client.attachments.download(pointer))).toEqual(Buffer.from(bytes));
    const wrongMac = { ...pointer, incrementalMac: new Uint8Array(pointer.incrementalMac).fill(0) };
    await expect(collect(bob.client.attachments.download(wrongMac))).rejects.toThrow("attachment/tampered");
    const wrongDigest = { ...pointer, digest: new Uint8Array(32) };
    await expect(collect(bob.client.attachments.download(wrongDigest))).rejects.toThrow(
      "attachment/tampered",
    );
  }
  const bytes = new Uint8Array(Buffer.from("a small picture of a bird"));
  const pointer = await alice.client.attachments.upload({ bytes, fileName: "bird.txt" });
  await alice.client.conversations.direct(bob.id).send({ text: "look", attachments: [pointer] });
  await until(() => textsOf(bob.client, alice.id).includes("look"));
  const line = bob.client.conversations.get(alice.id)!.history()[0];
  const received = line?.kind === "message" ? line.attachments[0]! : undefined;
  expect(received).toMatchObject({ fileName: "bird.txt", size: bytes.length });
  expect(await collect(bob.client.attachments.download(received!))).toEqual(Buffer.from(bytes));
});
