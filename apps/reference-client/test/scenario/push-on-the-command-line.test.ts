import { afterAll, beforeAll, expect, test } from "vitest";
import { PushServices } from "../../../../packages/simulation/test/support/push.ts";
import { Stage } from "../cli.ts";

const stage = new Stage();
let push: PushServices;
beforeAll(async () => {
  push = await PushServices.start();
  await stage.serve();
  await stage.introduce("alice");
});
afterAll(async () => {
  await stage.end();
  await push[Symbol.asyncDispose]();
});

test("push is turned on, shown, chosen for a community, and turned off", async () => {
  const { address, gateway } = push.options("alice");
  expect((await stage.ok("alice", "push", "status")).stdout).toBe("push is off\n");
  await stage.ok("alice", "group", "create", "flock", "--community");
  const on = `push is on: web-push through ${gateway}\n`;
  expect((await stage.ok("alice", "push", "on", gateway, address)).stdout).toBe(on);
  expect((await stage.ok("alice", "push", "by", "flock", "mentions")).stdout).toBe("woken by mentions\n");
  const [status] = (await stage.ok("alice", "push", "status", "--json")).json;
  expect(status).toMatchObject({ state: "on", registered: true, waitingHandles: 0 });
  expect((await stage.run("alice", "push", "by", "flock", "shouting")).code).toBe(2);
  expect((await stage.ok("alice", "push", "off")).stdout).toBe("push is off\n");
});

test("a gateway that is not there is told later, and an address that it does not take is said", async () => {
  const { address, gateway } = push.options("alice");
  const away = await stage.ok("alice", "push", "on", "http://127.0.0.1:9", address, "--wait", "2");
  expect(away.stdout).toContain("the gateway has not been told yet");
  const refused = await stage.ok(
    "alice",
    "push",
    "on",
    gateway,
    "https://elsewhere.example/x",
    "--wait",
    "2",
  );
  expect(refused.stdout).toContain("the gateway refuses the address (token/");
  expect((await stage.run("alice", "push", "on", "not an address", address)).code).not.toBe(0);
});
