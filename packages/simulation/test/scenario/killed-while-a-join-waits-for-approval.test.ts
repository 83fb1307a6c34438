import { expect, test } from "vitest";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { agree, nothingLeft, on, PATIENCE_MS, Peephole, small } from "../support/communities.ts";
import { killAroundEachEffect } from "../support/crashes.ts";

const isIn = (device: SimulatedDevice, id: string) => on(device, id)?.state === "active";

async function openDoor(alice: SimulatedDevice, title: string) {
  const group = await alice.client.conversations.createGroup({ title, members: [], protocol: "mls" });
  const { url } = await group.community.createLink({ approval: true });
  return { id: group.id, url: url! };
}

// The faults that these find: a join that waits and is forgotten, an answer that is lost between mailbox and group, and a
// request that is answered twice or never.
test("a stranger killed around any effect of a join with approval: what it has begun comes about by itself", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice", { settings: small });
  const dave = await world.join("Dave", { settings: small });
  alice.client.events.on((event) => {
    if (event.kind !== "join-requested") return;
    void on(alice, event.conversationId).community.approveJoin(event.accountId);
  });
  const peephole = new Peephole();
  let [id, url] = ["", ""];
  let alone = 0;

  const effects = await killAroundEachEffect({
    name: "a join with approval",
    device: dave,
    keep: peephole.keep,
    async prepare(point) {
      ({ id, url } = await openDoor(alice, `Flock ${point}`));
    },
    act: () => dave.client.conversations.join(url),
    async check() {
      if (isIn(dave, id) || peephole.count("mls_join") > 0) alone++;
      else await dave.client.conversations.join(url);
      await until(() => isIn(dave, id), PATIENCE_MS, "Dave is in");
      await agree([alice, dave], id);
      await dave.client.outbox.settled();
      await nothingLeft(peephole);
    },
  });
  expect(effects).toContain("send groupCommit");
  // It is begun with the first transaction, and has to be asked for again only where that did not come about.
  expect(alone).toBeGreaterThan(effects.length);
}, 300_000);

test("an admin killed around any effect of an approval: the request is still there, or the joiner is in", async () => {
  await using world = await World.start();
  const alice = await world.join("Alice", { settings: small });
  const dave = await world.join("Dave", { settings: small });
  const daveId = dave.id;
  let [id, url] = ["", ""];
  const asking = () => on(alice, id).community.joinRequests();
  let left = 0;

  await killAroundEachEffect({
    name: "an approval",
    device: alice,
    async prepare(point) {
      ({ id, url } = await openDoor(alice, `Flock ${point}`));
      await expect(dave.client.conversations.join(url, { timeoutMs: 1 })).rejects.toThrow(
        "link/approval-pending",
      );
      await until(() => asking().length === 1, PATIENCE_MS, "Alice has the request");
      await alice.client.outbox.settled();
    },
    act: () => on(alice, id).community.approveJoin(daveId),
    async check() {
      left += asking().length;
      if (asking().length > 0) await on(alice, id).community.approveJoin(daveId);
      await until(() => isIn(dave, id), PATIENCE_MS, "Dave is in");
      await agree([alice, dave], id);
      expect(asking()).toEqual([]);
    },
  });
  expect(left).toBeGreaterThan(0);
}, 300_000);
