import { parseGroupId, type SubmitId, utf8 } from "@murmuration/base";
import type { GroupEntry } from "@murmuration/wire";
import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import { TamperedLog } from "../support/entry-mischief.ts";
import { flockOf, newcomer, showsTwice, talkRound } from "../support/flock.ts";
import { bentCrypto, Outlaw } from "../support/outlaw.ts";
import { storedEpoch } from "../support/service-rows.ts";

const SENDER_DATA_BYTES = 12;

/** Whatever is sent claims to come from this leaf. */
const namesAsSender = (leaf: number, generation: number) =>
  bentCrypto((honest) => ({
    seal: (key, nonce, aad, plaintext) => {
      if (plaintext.length === SENDER_DATA_BYTES) {
        const view = new DataView(plaintext.buffer, plaintext.byteOffset);
        view.setUint32(0, leaf);
        view.setUint32(4, generation);
      }
      return honest.seal(key, nonce, aad, plaintext);
    },
  }));

test("a member who names another as the sender makes nobody believe that it was restored from an old copy", async () => {
  await using world = await World.start();
  const tampered = new TamperedLog();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", tampered);
  const device = await newcomer(world, "Mallory");
  const group = await flockOf(alice, bob, device);
  await talkRound([alice, bob, device], group.id, "before");
  await device.stop();
  const mallory = new Outlaw(device, world.origin);
  const connection = await mallory.enter(group.id, mallory.cursorOf(group.id));
  const keysOf = () =>
    new Outlaw(bob, world.origin).keyPackageKeys.map((key) => Buffer.from(key).toString("hex"));
  const keys = keysOf();
  const { epoch } = storedEpoch(world, group.id);

  const bobsLeaf = new Outlaw(bob, world.origin).group(group.id).ownLeaf;
  for (const generation of [0, 1, 2, 1000]) {
    const bent = mallory.group(group.id, namesAsSender(bobsLeaf, generation));
    await connection.demand("groupSubmitAccepted", {
      kind: "groupSubmit",
      groupId: parseGroupId(group.id),
      submitId: crypto.getRandomValues(new Uint8Array(16)) as SubmitId,
      message: bent.createApplicationMessage(utf8("I am Bob")).message,
    });
  }
  await talkRound([alice, bob], group.id, "after");

  // Nor does a service that shows Bob once more what he has said.
  const entries = tampered.sent.flatMap((page) => page.entries);
  let { lastSequence } = tampered.sent.at(-1)!;
  const again = entries
    .filter(({ application }) => application !== undefined)
    .map((entry): GroupEntry => ({ ...entry, sequence: ++lastSequence }));
  tampered.inject({ groupId: parseGroupId(group.id), entries: again, lastSequence });

  await until(() => bob.client.outbox.waiting === 0);
  expect(bob.client.communityCosts.rejoins).toBe(0);
  expect(keysOf()).toEqual(keys);
  expect(storedEpoch(world, group.id).epoch).toBe(epoch);
  expect(showsTwice(bob, group.id)).toEqual([]);
});
