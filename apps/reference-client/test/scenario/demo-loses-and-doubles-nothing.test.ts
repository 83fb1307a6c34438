import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, expect, test } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
afterAll(() => stage.end());

const KEYS = [
  "members",
  "protocol",
  "messages",
  "deliveries",
  "lost",
  "duplicated",
  "senderBytesPerMessage",
  "receiverBytesPerMessage",
  "senderCpuUsPerMessage",
  "receiverCpuUsPerMessage",
  "dsCpuUsPerMessage",
  "lastMemberMsMedian",
  "kills",
  "restarts",
  "processIds",
  "wallMs",
  "seed",
];

test("a small run with kills of service, sender and receivers ends clean, and leaves no process behind", async () => {
  const file = join(stage.folder, "demo.json");
  const args = ["--members", "5", "--messages", "16", "--seed", "11", "--json", file];
  const { code, stdout, stderr } = await stage.run("nobody", "demo", ...args);
  expect(stderr).not.toContain("murmuration:");
  const report = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;

  expect(Object.keys(report)).toEqual(KEYS);
  expect(report).toMatchObject({
    members: 5,
    protocol: "pairwise",
    messages: 16,
    deliveries: 64,
    lost: 0,
    duplicated: 0,
    kills: 3,
    restarts: 3,
    seed: 11,
  });
  expect(code).toBe(0);
  expect(stdout).toContain("Every message is exactly once in every member's history.");

  // Kills that only hit idle processes would show nothing.
  expect(stdout).toMatch(/3 and 3; [1-3] hit a message under way/);

  // Service, sender, two processes of receivers, and one more for each restart; all gone.
  const processIds = report["processIds"] as number[];
  expect(new Set(processIds).size).toBe(4 + 3);
  for (const id of processIds) expect(() => process.kill(id, 0)).toThrow("ESRCH");

  for (const key of KEYS.filter((name) => name.endsWith("PerMessage"))) {
    expect(report[key], key).toBeGreaterThan(0);
  }
});

test("a group that moves to MLS while its members talk loses, doubles and reorders nothing", async () => {
  const file = join(stage.folder, "move.json");
  const args = ["--from", "5", "--to", "9", "--chatter", "--light", "--seed", "3", "--json", file];
  const { code, stdout, stderr } = await stage.run("nobody", "demo", ...args);
  expect(stderr).not.toContain("murmuration:");
  const report = JSON.parse(readFileSync(file, "utf8")) as Record<string, unknown>;
  expect(report).toMatchObject({
    members: 9,
    protocol: "mls",
    lost: 0,
    duplicated: 0,
    reordered: 0,
    kills: 0,
    restarts: 0,
  });
  expect(Object.keys(report)).toEqual(expect.arrayContaining([...KEYS, "longestGapMs", "longestSilenceMs"]));
  const [pairwise, mls] = [report["messagesPairwise"] as number, report["messagesMls"] as number];
  expect(pairwise).toBeGreaterThan(10);
  expect(mls).toBeGreaterThan(10);
  expect(pairwise + mls).toBe(report["messages"]);
  const steps = (report["timeline"] as { atMs: number; what: string }[]).map(({ what }) => what);
  for (const step of [
    "preparing",
    "5 of 5 ready",
    "the creator has switched",
    "the last of 4 new members is in",
  ])
    expect(steps).toContain(step);
  expect(code).toBe(0);
  expect(stdout).toContain("from 5 to 9 members, over MLS from 7 on, 5 talk: 9.1 messages a second, seed 3");
  expect(stdout).toContain("in its sender's order");
  for (const id of report["processIds"] as number[]) expect(() => process.kill(id, 0)).toThrow("ESRCH");
});

test("a result file that cannot be written is said before anything runs", async () => {
  const { code, stderr } = await stage.run(
    "nobody",
    "demo",
    "--json",
    join(stage.folder, "no", "such", "folder"),
  );
  expect({ code, stderr }).toEqual({
    code: 1,
    stderr: "murmuration: The file for the result cannot be written (ENOENT).\n",
  });
});
