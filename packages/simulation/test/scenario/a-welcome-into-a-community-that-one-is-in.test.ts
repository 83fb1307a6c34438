import { deflateRawSync } from "node:zlib";
import { parseGroupId } from "@murmuration/base";
import { openSqlcipher, type Transport } from "@murmuration/client-core";
import { communityLeaf, decodeMlsMessage, Group, openPolicy } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { textsOf, until, World } from "../../src/index.ts";
import { flockOf, inGroup, namesIn, newcomer, talkRound } from "../support/flock.ts";
import { crypto, Outlaw } from "../support/outlaw.ts";

test("a Welcome into another group of that name leads nobody out of the community that it is in", async () => {
  await using world = await World.start();
  let tree: Uint8Array = new Uint8Array(0);
  const handsOutTheTree = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: async (request: Parameters<Transport["request"]>[0]) =>
        request.path.includes("tree")
          ? { status: 200, body: new Uint8Array(deflateRawSync(tree)) }
          : transport.request(request),
    });
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob");
  const mallory = await newcomer(world, "Mallory");
  const flock = await flockOf(alice, bob, mallory);
  await talkRound([alice, bob, mallory], flock.id, "before");
  await bob.stop();
  await mallory.stop();

  const outlaw = new Outlaw(mallory, world.origin);
  const { group } = Group.create(
    crypto,
    {
      groupId: parseGroupId(flock.id),
      identity: outlaw.identity,
      lifetime: { notBefore: 0n, notAfter: 0xffff_ffff_ffffn },
      leaf: communityLeaf,
      extensions: outlaw.group(flock.id).context.extensions,
    },
    { policy: openPolicy },
  );
  const storage = openSqlcipher({ path: bob.path, key: bob.key });
  try {
    const message = storage.get("SELECT message FROM mls_key_package")!["message"];
    const decoded = decodeMlsMessage(new Uint8Array(message as Uint8Array));
    if (decoded.wireFormat !== "mls_key_package") throw new Error(decoded.wireFormat);
    const { welcome } = group.createCommit({ proposals: [{ kind: "add", keyPackage: decoded.keyPackage }] });
    group.mergePending({ nowMs: 0 });
    tree = group.ratchetTree();
    // As if the service had brought it. What it says of the place in the log is up to it.
    storage.run(
      "INSERT INTO mls_welcome (group_id, welcome, tree_hash, sequence, received_at) VALUES (?, ?, ?, 1000, 0)",
      [parseGroupId(flock.id), welcome!, new Uint8Array(group.tree.treeHash())],
    );
  } finally {
    storage.close();
  }
  await bob.start({ wrapTransport: handsOutTheTree });

  await bob.client.connection.caughtUp();
  await talkRound([alice, bob], flock.id, "after");
  expect(namesIn(bob, flock.id)).toEqual(["Alice", "Bob", "Mallory"]);
  expect(bob.client.communityCosts).toMatchObject({ welcomes: 0, rejoins: 0 });
});

test("whoever was removed and added again while away is in the community again, by the Welcome", async () => {
  await using world = await World.start();
  const [alice, bob, carol] = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol"),
  ];
  const flock = await flockOf(alice, bob, carol);
  await talkRound([alice, bob, carol], flock.id, "before");
  const bobId = bob.id;
  await bob.stop();
  await flock.remove(bobId);
  await flock.send({ text: "while Bob was no member" });
  await flock.add([bobId]);
  await bob.start();

  await bob.client.connection.caughtUp();
  await until(() => inGroup(bob, flock.id)?.state === "active", 20_000, "Bob is back");
  await talkRound([alice, bob, carol], flock.id, "after");
  expect(textsOf(bob.client, flock.id)).not.toContain("while Bob was no member");
  expect(bob.client.communityCosts).toMatchObject({ welcomes: 1, rejoins: 0 });
});
