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
