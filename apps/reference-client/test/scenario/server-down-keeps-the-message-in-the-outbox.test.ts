import { afterAll, beforeAll, expect, test } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
beforeAll(async () => {
  await stage.serve();
  await stage.introduce("alice", "bob");
  await stage.ok("alice", "send", "bob", "before");
});
afterAll(() => stage.end());

test("while the service is dead a send exits with 3 and the message waits; afterwards it arrives once", async () => {
  await stage.killService();

  const failed = await stage.run("alice", "send", "bob", "meanwhile", "--wait", "2");
  expect(failed.code).toBe(3);
  expect(failed.stderr).toBe(
    "murmuration: The delivery service cannot be reached; the message stays in the outbox. (outbox/still-waiting)\n",
  );
  expect((await stage.ok("alice", "whoami", "--json")).json[0]).toMatchObject({ outbox: 1 });
  expect((await stage.run("bob", "listen", "--wait", "1")).code).toBe(3);
  expect((await stage.run("carol", "register", "--name", "carol")).code).toBe(3);

  await stage.serve();
  // Any command that connects sends what waits.
  await stage.ok("alice", "send", "bob", "after");
  expect((await stage.ok("alice", "whoami", "--json")).json[0]).toMatchObject({ outbox: 0 });
  const { json } = await stage.ok("bob", "history", "alice", "--receive", "--json");
  expect(json.map(({ text }) => text)).toEqual(["before", "meanwhile", "after"]);

  // Registering goes on where it was interrupted.
  await stage.ok("carol", "register", "--name", "carol");
});
