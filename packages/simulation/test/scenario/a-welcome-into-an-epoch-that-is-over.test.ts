import { deflateRawSync } from "node:zlib";
import { type Bytes, parseGroupId } from "@murmuration/base";
import { openSqlcipher, type Transport } from "@murmuration/client-core";
import { decodeMlsMessage, leafOfSignatureKey } from "@murmuration/mls-groups";
import { routePath } from "@murmuration/wire";
import { expect, test } from "vitest";
import { type SimulatedDevice, textsOf, until, World } from "../../src/index.ts";
import { Peephole } from "../support/communities.ts";
import { flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { crypto, Outlaw } from "../support/outlaw.ts";

/** What a service hands out for a Welcome: it, and the tree. */
interface Invitation {
  readonly epoch: number;
  readonly welcome: Bytes;
  readonly tree: Bytes;
  readonly treeHash: Bytes;
}

/** Somebody whose copy of the group is an old one adds a device to it again, by a KeyPackage that the device has published. */
function addAgain(by: Outlaw, id: string, device: SimulatedDevice, key: Bytes): Invitation {
  const group = by.group(id);
  const removed = leafOfSignatureKey(crypto, group.ratchetTree(), key)!;
  const keyPackage = keyPackageOf(device);
  const { welcome } = group.createCommit({
    proposals: [
      { kind: "remove", removed },
      { kind: "add", keyPackage },
    ],
  });
  group.mergePending({ nowMs: 0 });
  const treeHash = new Uint8Array(group.tree.treeHash());
  return { epoch: Number(group.epoch), welcome: welcome!, tree: group.ratchetTree(), treeHash };
}

function keyPackageOf(device: SimulatedDevice) {
  const storage = openSqlcipher({ path: device.path, key: device.key });
  try {
    const { message } = storage.get("SELECT message FROM mls_key_package WHERE last_resort = 0")!;
    const decoded = decodeMlsMessage(new Uint8Array(message as Uint8Array));
    if (decoded.wireFormat !== "mls_key_package") throw new Error(decoded.wireFormat);
    return decoded.keyPackage;
  } finally {
    storage.close();
  }
}

/** As if the service had brought it. What it says of the place in the log is up to it. */
function bring(device: SimulatedDevice, id: string, { welcome, treeHash }: Invitation): void {
  const storage = openSqlcipher({ path: device.path, key: device.key });
  try {
    storage.run(
      "INSERT INTO mls_welcome (group_id, welcome, tree_hash, sequence, received_at) VALUES (?, ?, ?, 1000, 0)",
      [parseGroupId(id), welcome, treeHash],
    );
  } finally {
    storage.close();
  }
}

/** Hands this tree out beside those that the service has. */
function handsOut({ tree, treeHash }: Invitation) {
  const path = routePath("getTree", { treeHash: Buffer.from(treeHash).toString("base64url") });
  return (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: async (request: Parameters<Transport["request"]>[0]) =>
        request.path === path
          ? { status: 200, body: new Uint8Array(deflateRawSync(tree)) }
          : transport.request(request),
    });
}

// The fault that this finds: whoever still has the keys of an epoch, or a service that was set back to it, leads a former
// member into a past that the others have left, where it talks to nobody but them.
test("a Welcome into an epoch that a former member has seen the end of leads nowhere, and the next true one leads in", async () => {
  await using world = await World.start();
  const peephole = new Peephole();
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", { wrapStorage: peephole.keep });
  const carol = await newcomer(world, "Carol");
  const flock = await flockOf(alice, bob, carol);
  await talkRound([alice, bob, carol], flock.id, "before");
  const oldCopy = new Outlaw(alice, world.origin);
  const bobs = new Outlaw(bob, world.origin);
  await flock.setRole(carol.id, "admin");
  await flock.setExpiry(3600);
  await until(
    () => inGroup(bob, flock.id)?.expireAfterSeconds === 3600,
    20_000,
    "Bob is in the newest epoch",
  );
  const seen = Number(new Outlaw(bob, world.origin).group(flock.id).epoch);
  const bobId = bob.id;
  await flock.remove(bobId);
  await until(() => inGroup(bob, flock.id)?.state === "removed", 20_000, "Bob hears of it");
  await bob.stop();

  const invitation = addAgain(oldCopy, flock.id, bob, bobs.identity.signatureKeys.publicKey);
  expect(invitation.epoch).toBe(seen - 1);
  bring(bob, flock.id, invitation);
  await bob.start({ wrapTransport: handsOut(invitation) });
  await until(() => peephole.count("mls_welcome") === 0, 20_000, "the Welcome is dealt with");
  expect(inGroup(bob, flock.id)?.state).toBe("removed");
  expect(bob.client.communityCosts).toMatchObject({ welcomes: 0, rejoins: 0 });

  await flock.add([bobId]);
  await until(() => inGroup(bob, flock.id)?.state === "active", 20_000, "Bob is back");
  await talkRound([alice, bob, carol], flock.id, "after");
  expect(textsOf(bob.client, flock.id)).toEqual(expect.arrayContaining(["before 0", "after 2"]));
  expect(bob.client.communityCosts).toMatchObject({ welcomes: 1, rejoins: 0 });
});
