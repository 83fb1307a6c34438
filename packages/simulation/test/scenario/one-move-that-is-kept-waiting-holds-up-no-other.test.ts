import { routePath } from "@murmuration/wire";
import { expect, test } from "vitest";
import { introduce, World } from "../../src/index.ts";
import { on, PATIENCE_MS } from "../support/communities.ts";
import { HeldRequests } from "../support/held-requests.ts";
import { allMoved, movers, pairwiseGroup, requireMoved, untilIn } from "../support/moves.ts";

// One loop looks after all moves of a device: whoever could keep it waiting in one group would let the leases of all others
// run out.
test("a device whose step in one group gets no answer moves another group meanwhile", async () => {
  await using world = await World.start();
  const held = new HeldRequests();
  const [alice] = await movers(world, ["Alice"], { wrapTransport: held.wrapTransport });
  const [bob] = await movers(world, ["Bob"]);
  await introduce(alice, bob);
  const everybody = [alice, bob];
  const first = await pairwiseGroup(alice, [bob], "Birds");
  const second = await pairwiseGroup(alice, [bob], "Fish");

  await on(alice, first.id).migrate("start");
  held.keep(`PUT ${routePath("writeGroup", { groupId: first.id })}`);
  await untilIn([alice], first.id, () => held.count > 0, "a step of the first is kept");
  await on(alice, second.id).migrate("start");
  await allMoved(everybody, second.id, 20_000);
  expect(on(alice, first.id).protocol).toBe("pairwise");

  held.letGo();
  for (const { id } of [first, second]) await requireMoved(everybody, id, "all are in", PATIENCE_MS);
}, 120_000);
