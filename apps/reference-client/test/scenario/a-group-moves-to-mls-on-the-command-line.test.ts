import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
beforeAll(async () => {
  await stage.serve();
  await stage.introduce("alice", "bob", "carol", "dave");
});
afterAll(() => stage.end());

const moveOf = async (home: string, ...args: string[]): Promise<unknown> =>
  (await stage.ok(home, "group", "migration", ...args, "--json")).json[0]!["migration"];

async function refused(home: string, ...args: string[]): Promise<string> {
  const { code, stderr } = await stage.run(home, "group", "migration", ...args);
  expect(code).toBe(1);
  return stderr;
}

test("a move is begun, looked at, given up, begun again, and ended without who is not there", async () => {
  await stage.ok("alice", "group", "create", "walkers", "bob");
  await stage.ok("bob", "history", "walkers", "--receive");
  expect((await stage.ok("alice", "group", "migration", "walkers")).stdout).toBe(
    "walkers: pairwise; has not begun to move to MLS (see --start)\n",
  );
  expect(await moveOf("alice", "walkers")).toBeNull();
  expect(await refused("alice", "walkers", "--abort")).toContain("(migration/not-started)");
  expect(await refused("alice", "walkers", "--finish-now")).toContain("(migration/not-started)");
  expect(await refused("bob", "walkers", "--start")).toContain("(group/not-an-admin)");
  expect(await stage.run("alice", "group", "migration", "walkers", "--start", "--abort")).toMatchObject({
    code: 2,
    stderr: "murmuration: Only one of --start, --abort, --finish-now.\n",
  });

  await stage.ok("alice", "group", "role", "walkers", "bob", "admin");
  const begun = await moveOf("alice", "walkers", "--start", "--follow", "--wait", "2");
  expect(begun).toMatchObject({
    generation: 1,
    isCreator: true,
    accounts: 2,
    readyAccounts: 1,
    notReady: [{ code: "migration/not-joined" }],
    waitsFor: "members",
    waitingMembers: 0,
  });
  const { stdout } = await stage.ok("alice", "group", "migration", "walkers");
  expect(stdout).toMatch(/^walkers: preparing the move to MLS \(preparing, generation 1\)\n/);
  expect(stdout).toMatch(/ready +1 of 2\n/);
  expect(stdout).toMatch(/not ready +bob: Has not joined the MLS group yet/);
  expect(stdout).toMatch(/deadline .*, in 14\d\d min: then it goes on without those who are not ready\n/);

  const given = await moveOf("alice", "walkers", "--abort");
  expect(given).toMatchObject({ state: "pairwise", generation: 1, waitsFor: "nothing" });
  await stage.ok("alice", "group", "migration", "walkers", "--start");
  // Bob is shown what the record says, and cannot end the waiting of another device.
  expect(await refused("bob", "walkers", "--finish-now")).toContain("(migration/not-the-creator)");
  expect((await stage.ok("bob", "group", "migration", "walkers")).stdout).toMatch(
    /generation 2\)\n[\s\S]*prepared by +alice\n[\s\S]*only the device that prepares the move knows/,
  );

  const moved = await moveOf("alice", "walkers", "--finish-now", "--follow");
  expect(moved).toMatchObject({ state: "mls", generation: 2, waitsFor: "nothing" });
  expect(await refused("alice", "walkers", "--abort")).toContain("(migration/already-switched)");
  await stage.ok("alice", "send", "walkers", "over MLS");
  const bob = stage.start("bob", "listen");
  await bob.says(/"over MLS"/);
  bob.process.kill("SIGINT");
  await bob.finished;
  const received = await stage.ok("bob", "history", "walkers", "--json");
  expect(received.json.map(({ text }) => text)).toContain("over MLS");
});

test("members that a pairwise group has no room for wait for its move, and come by themselves", async () => {
  const file = join(stage.folder, "alice", "settings.json");
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, "utf8")), mlsThreshold: 4 }));
  await stage.ok("alice", "group", "create", "crowd", "bob");
  const others = ["bob", "carol", "dave"].map((home) => stage.start(home, "listen"));
  await Promise.all(others.map((running) => running.says(/"state":"connected"/)));
  const added = await stage.ok("alice", "group", "add", "crowd", "carol", "dave", "--wait", "60", "--json");
  expect(added.json[0]).toMatchObject({ protocol: "mls", memberCount: 4 });
  expect(added.stderr).toContain("it moves to MLS, and 2 wait to be added then.");
  expect(added.stderr).toContain("preparing the move to MLS");
  expect(added.stderr).toContain("The group has moved to MLS.");
  await Promise.all(others.slice(1).map((running) => running.says(/"conversation-changed"/)));
  for (const running of others) {
    running.process.kill("SIGINT");
    expect((await running.finished).code).toBe(0);
  }
  await stage.ok("alice", "send", "crowd", "welcome");
  const { json } = await stage.ok("dave", "history", "crowd", "--receive", "--json");
  expect(json.map(({ text }) => text)).toContain("welcome");
});
