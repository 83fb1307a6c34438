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
