import { randomBytes } from "node:crypto";
import { connectTo, openClient, openSqlcipher } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { FrameTap, Harness, until } from "../../src/index.ts";

const MEMBERS = 255;

test("one message to 255 single-device members is one submit, and costs the sender little CPU", async () => {
  await using world = await Harness.start();
  const tap = new FrameTap();
  const alice = await world.join("Alice", { wrapTransport: tap.wrapTransport });
  const cards: string[] = [];
  const ids: string[] = [];
  for (let i = 1; i < MEMBERS; i++) {
    const storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(randomBytes(32)) });
    const client = await openClient({ storage, transport: connectTo(world.origin) });
    const account = await client.register({ name: `Member ${i}` });
    cards.push(account.contactCard);
    ids.push(account.accountId);
    await client.close();
  }
  for (const card of cards) await alice.client.contacts.add(card);
  const group = await alice.client.conversations.createGroup({ title: "A flock", members: ids });
  await alice.client.outbox.settled({ timeoutMs: 60_000 });

  const cpuMs: number[] = [];
  for (let round = 0; round < 5; round++) {
    await until(() => alice.client.outbox.waiting === 0);
    tap.sent.length = 0;
    const before = process.cpuUsage();
    await group.send({ text: `message ${round}` });
    await alice.client.outbox.settled();
    const { user, system } = process.cpuUsage(before);
    cpuMs.push((user + system) / 1000);
    const submits = tap.sent.flatMap((body) => (body.kind === "submitSealed" ? [body] : []));
    expect(submits).toHaveLength(1);
    expect(submits[0]!.recipients).toHaveLength(MEMBERS - 1);
    expect(submits[0]!.recipients.every((recipient) => recipient.devices.length === 1)).toBe(true);
    expect(submits[0]!.fence).toBeDefined();
  }
  // The service has a process of its own, so this is the sender's; time depends on the machine and is reported.
  console.log(
    `CPU of the sender for one message to ${MEMBERS} members, ms: ${cpuMs.map(Math.round).join(", ")}`,
  );
}, 300_000);
