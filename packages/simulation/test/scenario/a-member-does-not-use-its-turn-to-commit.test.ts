import { expect, test } from "vitest";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { agree, countOf, flock, hearEachOther, on, PATIENCE_MS } from "../support/communities.ts";
import { HeldFrames } from "../support/held-frames.ts";

/** Alice has lost a race and has the turn now, for five seconds, and does nothing. */
async function scene(world: World) {
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const members = [bob.id, carol.id, dave.id];
  const { id } = await alice.client.conversations.createGroup({ title: "Flock", members });
  const others: readonly SimulatedDevice[] = [bob, carol, dave];
  await until(() => others.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await on(alice, id).setRole(bob.id, "admin");
  await agree([alice, ...others], id);
  await alice.stop();
  const link = new HeldFrames();
  await alice.start({ wrapTransport: link.wrapTransport });
  await alice.client.connection.caughtUp();
  link.keep("groupCommit");
  const lost = on(alice, id)
    .setRole(carol.id, "admin")
    .catch(() => undefined);
  await until(() => link.keeps, PATIENCE_MS);
  await on(bob, id).setExpiry(60);
  link.hang();
  link.letGo();
  await until(
    () => link.hasMissed("groupCommitLost"),
    PATIENCE_MS,
    "she is told that she lost, and has the turn",
  );
  const end = async () => {
    await alice.stop();
    await lost;
  };
  return { bob, carol, dave, others, id, end };
}

test("others commit when the turn of a member that hangs is over", async () => {
  await using world = await World.start();
  const { bob, others, id, end } = await scene(world);
  await on(bob, id).setExpiry(120);
  expect(bob.client.communityCosts.refusedSubmits, "it had to wait").toBeGreaterThan(0);
  await agree(others, id);
  await hearEachOther(others, id, "afterwards");
  await end();
});

// The fault that this finds: a member that enters anew tries sixteen times within a moment instead of waiting for its turn,
// and stays outside until it happens to connect again.
test("a member enters anew when the turn of another one that hangs is over", async () => {
  await using world = await World.start();
  const { carol, dave, others, id, end } = await scene(world);
  await Promise.all([on(carol, id).community.heal(), on(dave, id).community.heal()]);
  await agree(others, id);
  await hearEachOther(others, id, "afterwards");
  expect(countOf(carol, id, "afterwards, member 0")).toBe(1);
  await end();
});
