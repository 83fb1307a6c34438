import { existsSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
beforeAll(async () => {
  await stage.serve();
  await stage.introduce("alice", "bob", "carol");
});
afterAll(() => stage.end());

const texts = (lines: readonly Record<string, unknown>[]): unknown[] =>
  lines.map((line) => line["text"]).filter(Boolean);

test("a message arrives, and the history shows it on both sides", async () => {
  await stage.ok("alice", "send", "bob", "hello bob");
  const received = await stage.ok("bob", "history", "alice", "--receive", "--json");
  expect(texts(received.json)).toEqual(["hello bob"]);
  const sent = await stage.ok("alice", "history", "bob", "--json");
  expect(sent.json[0]).toMatchObject({ text: "hello bob", outgoing: true, sendState: "accepted" });
});

test("a text may come from standard input", async () => {
  const sending = stage.start("bob", "send", "alice", "-");
  sending.process.stdin.end("from a\npipe");
  expect((await sending.finished).code).toBe(0);
  const received = await stage.ok("alice", "history", "bob", "--receive", "--json");
  expect(texts(received.json).at(-1)).toBe("from a\npipe");
});

test("safety numbers are equal on both sides and differ from those with others", async () => {
  const digits = async (home: string, contact: string): Promise<unknown> =>
    (await stage.ok(home, "safety-number", contact, "--json")).json[0]!["digits"];
  const between = await digits("alice", "bob");
  expect(between).toMatch(/^\d{60}$/);
  expect(await digits("bob", "alice")).toBe(between);
  expect(await digits("alice", "carol")).not.toBe(between);
  const shown = await stage.ok("alice", "safety-number", "bob", "--mark-verified");
  expect(shown.stdout).toMatch(/^(\d{5} ){11}\d{5}\nverified\n$/);
});

test("events come again until --after says that they were dealt with", async () => {
  await stage.ok("alice", "send", "bob", "an event");
  const first = (await stage.ok("bob", "listen", "--for", "3")).json.filter(({ eventId }) => eventId !== 0);
  const again = (await stage.ok("bob", "listen", "--for", "3")).json.filter(({ eventId }) => eventId !== 0);
  expect(JSON.stringify(first)).toContain("an event");
  expect(again.map(({ eventId }) => eventId)).toEqual(first.map(({ eventId }) => eventId));
  const last = String(first.at(-1)!["eventId"]);
  const after = await stage.ok("bob", "listen", "--after", last, "--for", "2");
  expect(after.json.filter(({ eventId }) => eventId !== 0)).toEqual([]);
});

test("a group: created, grown, talked in, shrunk and left", async () => {
  const [created] = (await stage.ok("alice", "group", "create", "walkers", "bob", "--json")).json;
  expect(created).toMatchObject({ title: "walkers", memberCount: 2, protocol: "pairwise" });
  await stage.ok("alice", "group", "add", "walkers", "carol");
  await stage.ok("alice", "send", "walkers", "to all of you");
  for (const home of ["bob", "carol"]) {
    const { json } = await stage.ok(home, "history", created!["id"] as string, "--receive", "--json");
    expect(texts(json)).toEqual(["to all of you"]);
  }
  const members = await stage.ok("carol", "group", "members", "walkers");
  expect(members.stdout.trim().split("\n")).toHaveLength(3);

  await stage.ok("alice", "group", "remove", "walkers", "bob");
  await stage.ok("alice", "send", "walkers", "without bob");
  const bob = await stage.ok("bob", "history", "walkers", "--receive", "--json");
  expect(texts(bob.json)).toEqual(["to all of you"]);
  const carol = await stage.ok("carol", "history", "walkers", "--receive", "--json");
  expect(texts(carol.json)).toEqual(["to all of you", "without bob"]);

  await stage.ok("carol", "group", "leave", "walkers");
  const left = await stage.ok("carol", "group", "list", "--json");
  expect(left.stdout).toContain('"state":"left"');
  expect((await stage.run("carol", "send", "walkers", "too late")).code).toBe(1);
});

test("whoami and contacts work without the service being asked", async () => {
  const [me] = (await stage.ok("alice", "whoami", "--json")).json;
  expect(me).toMatchObject({ name: "alice", deviceId: 1, outbox: 0, server: stage.server });
  const { stdout } = await stage.ok("alice", "contacts");
  expect(stdout).toContain("bob");
  expect(stdout).toContain("carol");
});

test("chat sends what is typed and shows what comes", async () => {
  const alice = stage.start("alice", "chat", "bob");
  const bob = stage.start("bob", "chat", "alice");
  alice.process.stdin.write("are you there?\n");
  await bob.says(/alice: are you there\?/);
  bob.process.stdin.write("yes\n");
  await alice.says(/bob: yes/);
  alice.process.stdin.write("/quit\n");
  bob.process.stdin.end();
  expect([(await alice.finished).code, (await bob.finished).code]).toEqual([0, 0]);
});

test("an export has everything in plaintext but no keys, and never overwrites", async () => {
  const file = join(stage.folder, "export.jsonl");
  await stage.ok("alice", "export", "--output", file);
  const text = readFileSync(file, "utf8");
  expect(text).toContain("hello bob");
  expect(text).toContain('"kind":"contact"');
  expect(text).not.toContain("contactCard");
  expect(statSync(file).mode & 0o777).toBe(0o600);
  expect(await stage.run("alice", "export", "--output", file)).toMatchObject({
    code: 1,
    stderr: "murmuration: The file cannot be created (EEXIST).\n",
  });
});

test("a second process in the same home folder is turned away", async () => {
  const listening = stage.start("alice", "listen");
  await listening.says(/"kind":"connection".*"state":"connected"/);
  expect(await stage.run("alice", "send", "bob", "at the same time")).toMatchObject({
    code: 1,
    stderr: "murmuration: Another murmuration process is at work in this home folder.\n",
  });
  listening.process.kill("SIGINT");
  expect((await listening.finished).code).toBe(0);
});

test("a passphrase unlocks the database, and no other does", async () => {
  const file = (name: string, content: string): string => {
    const path = join(stage.folder, name);
    writeFileSync(path, content);
    return path;
  };
  const right = file("right", "correct horse\n");
  await stage.ok("dave", "register", "--name", "dave", "--passphrase-file", right);
  expect(existsSync(join(stage.folder, "dave", "key"))).toBe(false);
  expect((await stage.ok("dave", "whoami", "--passphrase-file", right)).stdout).toContain("dave");
  const wrong = await stage.run("dave", "whoami", "--passphrase-file", file("wrong", "battery staple"));
  expect(wrong).toMatchObject({ code: 1, stdout: "" });
  expect(wrong.stderr).toContain("storage/wrong-key");
  expect((await stage.run("dave", "whoami")).stderr).toContain("--passphrase-file");
});
