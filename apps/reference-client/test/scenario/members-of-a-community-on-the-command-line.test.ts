import { readFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fromHex } from "@murmuration/base";
import { openSqlcipher } from "@murmuration/client-core";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
let flock: string;
let title = "";
let founded = 0;
beforeAll(async () => {
  await stage.serve();
  await stage.introduce("alice", "bob", "carol");
  // Whoever was never connected has left no keys by which it could be added.
  for (const home of ["bob", "carol"]) await stage.ok(home, "history", "alice", "--receive");
});
/** A community of alice and bob, and carol beside it. */
beforeEach(async () => {
  title = `flock ${++founded}`;
  const [made] = (await stage.ok("alice", "group", "create", title, "bob", "--community", "--json")).json;
  flock = made!["id"] as string;
  await hears("bob");
});
afterAll(() => stage.end());

/** What somebody has heard in the community once everything that waits has come. */
async function hears(home: string): Promise<readonly unknown[]> {
  const { json } = await stage.ok(home, "history", flock, "--receive", "--limit", "1000", "--json");
  return json.map((line) => line["text"]).filter(Boolean);
}

/** Members as somebody's device has them: name and role. */
async function membersOf(home: string, ...more: readonly string[]): Promise<readonly string[]> {
  const { stdout } = await stage.ok(home, "group", "members", flock, "--json", ...more);
  const members = JSON.parse(stdout) as readonly { readonly name: string; readonly role: string }[];
  return members.map(({ name, role }) => `${name} ${role}`).toSorted();
}

async function stateOf(home: string): Promise<unknown> {
  const { stdout } = await stage.ok(home, "group", "list", "--json");
  const groups = JSON.parse(stdout) as readonly { readonly id: string; readonly state: string }[];
  return groups.find(({ id }) => id === flock)?.state;
}

/** How many commits the service has in the log of the community. */
function commits(): number {
  const path = join(stage.folder, "service", "delivery-service.sqlite");
  const database = new DatabaseSync(path, { readOnly: true });
  try {
    const sql = `SELECT count(*) AS n FROM mls_entries JOIN mls_groups USING (mls_group)
      WHERE group_id = ? AND kind = 'commit'`;
    return database.prepare(sql).get(Buffer.from(flock, "base64url"))!["n"] as number;
  } finally {
    database.close();
  }
}

test("members are added and listed, found by a part of their name, given roles, and removed by whoever may", async () => {
  expect((await stage.ok("alice", "group", "add", title, "carol")).stdout).toBe(
    `${flock}  ${title}  3 members  mls\n`,
  );
  await stage.ok("alice", "send", title, "welcome");
  expect(await hears("carol")).toEqual(["welcome"]);
  await hears("bob");
  for (const home of ["alice", "bob", "carol"])
    expect(await membersOf(home)).toEqual(["alice owner", "bob member", "carol member"]);
  expect(await membersOf("alice", "--search", "ARO")).toEqual(["carol member"]);
  expect((await stage.ok("alice", "group", "members", title, "--search", "nobody")).stdout).toBe("");

  const refused = await stage.run("bob", "group", "remove", flock, "carol");
  expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining("(community/") });
  expect((await stage.run("alice", "group", "role", title, "bob", "king")).code).toBe(2);
  await stage.ok("alice", "group", "role", title, "bob", "admin");
  const removed = await stage.ok("bob", "group", "remove", flock, "carol", "--json");
  expect(removed.json[0]).toMatchObject({ id: flock, protocol: "mls", state: "active", memberCount: 2 });

  await stage.ok("alice", "send", title, "without carol");
  expect(await hears("carol")).toEqual(["welcome"]);
  expect(await stateOf("carol")).toBe("removed");
  expect(await stage.run("carol", "send", flock, "still here?")).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("conversation/not-active"),
  });
  expect(await membersOf("alice")).toEqual(["alice owner", "bob admin"]);
});

test("whoever is banned is out and cannot be added, until the ban is lifted", async () => {
  await stage.ok("alice", "group", "add", title, "carol");
  await hears("carol");
  const banned = await stage.ok("alice", "group", "ban", title, "carol");
  expect(banned.stdout).toBe(`${flock}  ${title}  2 members  mls\n`);
  await hears("carol");
  expect(await stateOf("carol")).toBe("removed");

  const kept = await stage.ok("alice", "group", "add", title, "carol");
  expect(kept.stderr).toMatch(/^not added: \S+ \(community\/add-banned\)$/m);
  expect(await membersOf("alice")).toEqual(["alice owner", "bob member"]);
  // By a link she does not come in either.
  const made = await stage.ok("alice", "group", "link", title, "--create", "--json");
  const [{ url }] = JSON.parse(made.stdout) as [{ url: string }];
  expect((await stage.run("carol", "join", url)).stderr).toContain("community/join-banned");

  await stage.ok("alice", "group", "ban", title, "carol", "--lift");
  const added = await stage.ok("alice", "group", "add", title, "carol");
  expect(added.stdout).toBe(`${flock}  ${title}  3 members  mls\n`);
  expect(added.stderr).not.toContain("not added");
  await stage.ok("alice", "send", title, "carol is back");
  expect((await hears("carol")).at(-1)).toBe("carol is back");
});

test("a device that enters anew is in the community as before, with keys that nobody had", async () => {
  await stage.ok("alice", "send", title, "before");
  await hears("bob");
  const before = commits();
  expect((await stage.ok("bob", "group", "heal", flock)).stdout).toBe(`${flock}  ${title}  2 members  mls\n`);
  expect(commits()).toBe(before + 1);
  await stage.ok("bob", "send", flock, "healed");
  expect(await hears("alice")).toEqual(["before", "healed"]);
  await stage.ok("alice", "send", title, "good");
  expect(await hears("bob")).toEqual(["before", "healed", "good"]);
  expect(await membersOf("alice")).toEqual(["alice owner", "bob member"]);

  await stage.ok("alice", "group", "remove", title, "bob");
  await hears("bob");
  expect(await stage.run("bob", "group", "heal", flock)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining("conversation/not-active"),
  });
});

test("whoever only a person can help is told in a sentence, once, beside what the command prints", async () => {
  const home = join(stage.folder, "bob");
  const key = fromHex(readFileSync(join(home, "key"), "utf8").trim());
  const storage = openSqlcipher({ path: join(home, "client.db"), key });
  storage.run("UPDATE mls_row SET value = x'00' WHERE group_id = ? AND key = 'g'", [
    new Uint8Array(Buffer.from(flock, "base64url")),
  ]);
  storage.close();
  await stage.ok("alice", "send", title, "are you there?");
  const broken = await stage.ok("bob", "history", title, "--receive");
  expect(broken.stderr).toBe(
    `! ${title}: This device could not go on with what it knows of the group, and enters it anew. (group/unusable)\n`,
  );
  expect((await stage.ok("bob", "history", title, "--receive")).stderr).toBe("");
});

test("nobody chooses between two keys of a contact who has one, or both of two", async () => {
  const number = await stage.ok("alice", "safety-number", "bob");
  const nothing = await stage.run("alice", "safety-number", "bob", "--accept-new-key", "1");
  expect(nothing).toMatchObject({
    code: 1,
    stderr:
      "murmuration: The identity key of this contact is the one that was known before. (contact/nothing-to-decide)\n",
  });
  const both = await stage.run("alice", "safety-number", "bob", "--accept-new-key", "1", "--keep-old-key");
  expect(both.code).toBe(2);
  expect((await stage.ok("alice", "safety-number", "bob")).stdout).toBe(number.stdout);
});
