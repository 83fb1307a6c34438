import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { Stage } from "../cli.ts";

const stage = new Stage();
afterAll(() => stage.end());

/** Writes a configuration file and gives its path. */
const written = (name: string, config: object) => {
  const path = join(stage.folder, name);
  writeFileSync(path, JSON.stringify(config));
  return path;
};

describe("murmuration serve --config", () => {
  it("reads the file, lets options override it, drains at SIGTERM and exits with 0", async () => {
    const data = join(stage.folder, "store");
    const config = written("serve.json", { data, port: 1, logLevel: "error", drainSeconds: 5 });
    const service = stage.start("operator", "serve", "--config", config, "--port", "0");
    const [, address] = await service.says(/listening on (http:\/\/\S+)\n/);
    expect(await (await fetch(`${address}/health`)).text()).toBe("ok\n");
    expect(await (await fetch(`${address}/health/alive`)).text()).toBe("alive\n");
    service.process.kill("SIGTERM");
    expect(await service.finished).toMatchObject({ code: 0, stderr: "" });
  });

  it("says which key is wrong, and exits with 2", async () => {
    const config = written("wrong.json", { prot: 8080 });
    expect(await stage.run("operator", "serve", "--config", config)).toMatchObject({
      code: 2,
      stderr: 'murmuration: The configuration file has no key "prot". Is "port" meant?\n',
    });
  });
});

describe("murmuration doctor", () => {
  it("exits with 0 where nothing failed, as a table or in JSON", async () => {
    const config = written("sound.json", { data: join(stage.folder, "nothing-yet"), maxConnections: 100 });
    const { stdout } = await stage.ok("operator", "doctor", "--config", config);
    expect(stdout).toMatch(/^ok +sqlite\/schema +empty/m);
    const { json } = await stage.ok("operator", "doctor", "--config", config, "--json");
    expect(json).toContainEqual(expect.objectContaining({ check: "sqlite/schema", status: "ok" }));
  });

  it("exits with 1 where an engine does not answer, and shows no password", async () => {
    const postgresUrl = "postgres://somebody:hunter22@127.0.0.1:9/chat";
    const config = written("gone.json", { store: "cluster", postgresUrl, redisUrl: "redis://127.0.0.1:9" });
    const { code, stdout, stderr } = await stage.run("operator", "doctor", "--config", config);
    expect({ code, stderr }).toEqual({ code: 1, stderr: "" });
    expect(stdout).toMatch(/^fail +postgresql\/reachable +no answer$/m);
    expect(stdout).toMatch(/^redis\/reachable: Start it/m);
    expect(stdout).not.toContain("hunter22");
  });
});

describe("murmuration admin", () => {
  it("shows groups under labels, KeyPackages and retention beside the running service", async () => {
    await stage.serve();
    const data = join(stage.folder, "service");
    const config = written("admin.json", { data });
    const admin = (...args: string[]) => stage.ok("operator", "admin", ...args, "--config", config);
    expect((await admin("groups")).stdout).toBe("no MLS groups\n");

    await stage.ok("alice", "register", "--name", "alice");
    await stage.ok("alice", "group", "create", "secret society", "--community");
    const groups = await stage.ok("alice", "group", "list", "--json");
    const [{ id }] = JSON.parse(groups.stdout) as [{ readonly id: string }];
    const key = join(stage.folder, "label-key");
    const [first] = (await admin("groups", "--json", "--label-key", key)).json;
    const [second] = (await admin("groups", "--json", "--label-key", key)).json;
    expect(first).toMatchObject({ label: expect.stringMatching(/^[0-9a-f]{10}$/), leftBehind: 0 });
    expect(second!["label"]).toBe(first!["label"]);
    const shown = (await admin("groups")).stdout;
    expect(shown).toMatch(/^label +epoch +age +stale/);
    expect(shown).not.toContain(first!["label"]);
    for (const text of [shown, JSON.stringify(first)]) {
      expect(text).not.toContain("society");
      expect(text).not.toContain(id);
    }

    expect((await admin("key-packages", "--json")).json).toMatchObject([{ devices: 1, none: 0 }]);
    const retention = await stage.run("operator", "admin", "retention", "--config", config);
    expect(retention).toMatchObject({ code: 0 });
    expect(retention.stdout).toMatch(/^group-entries +\S+ +\d+ +0$/m);
  });

  it("says where there is no store", async () => {
    const config = written("nowhere.json", { data: join(stage.folder, "nowhere") });
    expect(await stage.run("operator", "admin", "groups", "--config", config)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("(store/not-there)"),
    });
  });
});
