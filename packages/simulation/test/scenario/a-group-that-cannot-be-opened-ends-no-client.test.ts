import { deflateRawSync } from "node:zlib";
import { parseGroupId } from "@murmuration/base";
import { openSqlcipher, type Storage, type Transport } from "@murmuration/client-core";
import { decodeMlsMessage, type Group } from "@murmuration/mls-groups";
import { expect, test } from "vitest";
import { internalsOf } from "../../../mls-groups/src/group/group.ts";
import { encodeGroupContext } from "../../../mls-groups/src/group/public-epoch.ts";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";

/** Changes the database of a device that does not run. */
function inDatabase<T>({ path, key }: SimulatedDevice, work: (storage: Storage) => T): T {
  const storage = openSqlcipher({ path, key });
  try {
    return work(storage);
  } finally {
    storage.close();
  }
}

const asked = ({ client }: SimulatedDevice) =>
  client.events.read(0, 1_000).flatMap((event) => (event.kind === "decision-needed" ? [event.code] : []));

/** The group as its maker may have it begin: in any epoch. */
function inEpoch(group: Group, epoch: bigint): Group {
  const inside = internalsOf(group);
  const context = { ...inside.state.public.context, epoch };
  const contextBytes = encodeGroupContext(context);
  inside.state = { ...inside.state, public: { ...inside.state.public, context, contextBytes } };
  return group;
}

test("a Welcome into an epoch that no frame can name is thrown away, and the client goes on", async () => {
  await using world = await World.start();
  let tree: Uint8Array = new Uint8Array(0);
  const handsOutTheTree = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      request: async (request: Parameters<Transport["request"]>[0]) =>
        request.path.includes("tree") && tree.length > 0
          ? { status: 200, body: new Uint8Array(deflateRawSync(tree)) }
          : transport.request(request),
    });
  const alice = await newcomer(world, "Alice");
  const bob = await newcomer(world, "Bob", { wrapTransport: handsOutTheTree });
  const stranger = await newcomer(world, "Mallory");
  const flock = await flockOf(alice, bob);
  const strange = await flockOf(stranger, alice);
  await bob.stop();

  const group = inEpoch(new Outlaw(stranger, world.origin).group(strange.id), 2n ** 60n);
  const message = inDatabase(
    bob,
    (storage) => storage.get("SELECT message FROM mls_key_package")!["message"],
  );
  const decoded = decodeMlsMessage(new Uint8Array(message as Uint8Array));
  if (decoded.wireFormat !== "mls_key_package") throw new Error(decoded.wireFormat);
  const { welcome } = group.createCommit({
    proposals: [{ kind: "add", keyPackage: decoded.keyPackage }],
  });
  group.mergePending({ nowMs: 0 });
  tree = group.ratchetTree();
  inDatabase(bob, (storage) =>
    storage.run(
      "INSERT INTO mls_welcome (group_id, welcome, tree_hash, sequence, received_at) VALUES (?, ?, ?, 2, 0)",
      [parseGroupId(strange.id), welcome!, new Uint8Array(group.tree.treeHash())],
    ),
  );
  await bob.start();

  await bob.client.connection.caughtUp();
  tree = new Uint8Array(0);
  await talkRound([alice, bob], flock.id, "after");
  expect(inGroup(bob, strange.id)).toBeUndefined();
  await bob.stop();
  expect(inDatabase(bob, (storage) => storage.all("SELECT id FROM mls_welcome"))).toEqual([]);
});

test("a group whose rows are spoilt is entered anew, and the others stay as they are", async () => {
  await using world = await World.start();
  const [alice, bob] = [await newcomer(world, "Alice"), await newcomer(world, "Bob")];
  const spoilt = await flockOf(alice, bob);
  const sound = await flockOf(alice, bob);
  await bob.stop();
  inDatabase(bob, (storage) =>
    storage.run("UPDATE mls_row SET value = x'00' WHERE group_id = ? AND key = 'g'", [
      parseGroupId(spoilt.id),
    ]),
  );
  await bob.start();

  await talkRound([alice, bob], sound.id, "in the sound one");
  await until(() => bob.client.communityCosts.rejoins === 1, 20_000, "the other is entered anew");
  await spoilt.send({ text: "welcome back" });
  await allShow([bob], spoilt.id, "welcome back");
  expect(asked(bob)).toEqual(["group/unusable"]);
});
