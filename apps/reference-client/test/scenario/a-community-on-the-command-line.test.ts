import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
beforeAll(async () => {
  await stage.serve();
  await stage.introduce("alice");
  await stage.ok("carol", "register", "--name", "carol");
});
afterAll(() => stage.end());

const texts = (lines: readonly Record<string, unknown>[]): unknown[] =>
  lines.map((line) => line["text"]).filter(Boolean);

test("a community is founded, joined with approval, told of its past, and muted", async () => {
  await stage.ok("alice", "group", "create", "flock", "--community");
  await stage.ok("alice", "send", "flock", "before carol");
  await stage.ok("alice", "group", "settings", "flock", "--description", "Starlings only");
  const file = join(stage.folder, "bird.png");
  writeFileSync(file, "a bird");
  await stage.ok("alice", "group", "settings", "flock", "--picture", file);
  const made = await stage.ok("alice", "group", "link", "flock", "--create", "--approval", "--json");
  const [{ url }] = JSON.parse(made.stdout) as [{ url: string }];
  const shown = await stage.ok("alice", "group", "link", "flock");
  expect(shown.stdout).toContain("with approval");

  const waiting = await stage.run("carol", "join", url, "--wait", "2");
  expect(waiting).toMatchObject({ code: 3 });
  expect(waiting.stderr).toContain("link/approval-pending");
  const [request] = (await stage.ok("alice", "group", "requests", "flock", "--json")).json;
  expect(request).toMatchObject({ name: "carol" });
  expect(await stage.run("alice", "group", "requests", "flock", "--approve", "mallory")).toMatchObject({
    code: 1,
    stderr: 'murmuration: Nobody called "mallory" asks to join.\n',
  });
  await stage.ok("alice", "group", "requests", "flock", "--approve", "carol");

  const joined = await stage.ok("carol", "join", url, "--json");
  expect(joined.json[0]).toMatchObject({ title: "flock", state: "active", memberCount: 2 });
  await stage.ok("alice", "group", "share-history", "flock", "--count", "10");
  const past = await stage.ok("carol", "history", "flock", "--receive", "--json");
  expect(texts(past.json)).toEqual(["before carol"]);
  expect((await stage.ok("carol", "history", "flock")).stdout).toContain("told by");
  // Alice answers what carol has asked while she was away as soon as she is there for a moment.
  await stage.ok("alice", "listen", "--for", "3");
  await stage.ok("carol", "history", "flock", "--receive");
  const described = await stage.ok("carol", "group", "settings", "flock", "--json");
  expect(described.json[0]).toMatchObject({
    title: "flock",
    description: "Starlings only",
    picture: "bird.png",
  });
  expect((await stage.run("carol", "group", "share-history", "flock")).stderr).toContain(
    "group/not-an-admin",
  );

  const [rule] = (await stage.ok("alice", "history", "flock", "--limit", "1000", "--json")).json.filter(
    ({ text }) => text === "before carol",
  );
  const pinned = await stage.ok("alice", "group", "pins", "flock", "--pin", String(rule!["historyId"]));
  expect(pinned.stdout).toContain("before carol");
  await stage.ok("carol", "history", "flock", "--receive");
  expect(texts((await stage.ok("carol", "group", "pins", "flock", "--json")).json)).toEqual(["before carol"]);

  expect((await stage.ok("carol", "mute", "flock")).stdout).toBe("muted\n");
  const [muted] = (await stage.ok("carol", "mute", "flock", "--until", "8h", "--json")).json;
  expect(muted!["mutedUntilMs"]).toBeGreaterThan(Date.now());
  expect((await stage.ok("carol", "mute", "flock", "--until", "off")).stdout).toBe("not muted\n");
  expect((await stage.run("carol", "mute", "flock", "--until", "soon")).code).toBe(2);
});

test("a link is made for a week, shows until when, and is for a year at most", async () => {
  await stage.ok("alice", "group", "create", "club", "--community");
  const link = (...options: readonly string[]) => stage.run("alice", "group", "link", "club", ...options);
  const before = Date.now();
  const [made] = JSON.parse((await link("--create", "--expires", "7d", "--json")).stdout) as [
    { expiresAtMs: number; linkId: string },
  ];
  expect(made.expiresAtMs).toBeGreaterThanOrEqual(before + 7 * 86_400_000);
  expect(made.expiresAtMs).toBeLessThanOrEqual(Date.now() + 7 * 86_400_000);
  const until = new Date(made.expiresAtMs).toISOString();
  expect((await link()).stdout).toContain(`${made.linkId}  any number of uses  expires ${until}  http`);

  expect(await link("--create", "--expires", "soon")).toMatchObject({
    code: 2,
    stderr: 'murmuration: --expires takes a time like 30m, 8h or 7d, not "soon".\n',
  });
  expect((await link("--expires", "7d")).code).toBe(2);
  const tooLong = await link("--create", "--expires", "366d");
  expect(tooLong.code).toBe(1);
  expect(tooLong.stderr).toContain("a year at most, or until it is revoked. (link/bad-expiry)");
});
