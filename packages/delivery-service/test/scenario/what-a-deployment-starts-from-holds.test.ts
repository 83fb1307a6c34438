import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { createPrometheusMetrics } from "../../src/adapters/prometheus-metrics.ts";
import { type ConfigKey, configKeys, environmentName } from "../../src/config-keys.ts";
import { readOperationsDocument, withConfigurationTable } from "../../tools/configuration-document.ts";

const deployed = (name: string) =>
  readFileSync(new URL(`../../../../deploy/${name}`, import.meta.url), "utf8");
const texts: Readonly<Record<string, string>> = {
  ...Object.fromEntries(
    ["Dockerfile", "compose.yaml", "murmuration.service", "alerts.yml", "prometheus.yml"].map((name) => [
      name,
      deployed(name),
    ]),
  ),
  "docs/operations.md": readOperationsDocument(),
};
const names = Object.keys(texts);

/** Seconds after `key` in a text. */
const seconds = (text: string, key: RegExp) => Number(key.exec(text)?.[1]);

describe("what a deployment starts from holds", () => {
  it("the table of keys in docs/operations.md is that of the code", () => {
    const document = readOperationsDocument();
    expect(document, "npm run configuration -w packages/delivery-service").toBe(
      withConfigurationTable(document),
    );
  });

  it.each(names)("%s names no variable that the service does not know", (name) => {
    const known = Object.entries<ConfigKey<never>>(configKeys as never).flatMap(([key, { secret }]) =>
      secret ? [environmentName(key), `${environmentName(key)}_FILE`] : [environmentName(key)],
    );
    const named = new Set(texts[name]!.match(/\bMURMURATION_[A-Z][A-Z_]*/g));
    expect([...named].filter((variable) => !known.includes(variable))).toEqual([]);
  });

  it.each(["alerts.yml", "docs/operations.md"])("%s names no metric that no node has", async (name) => {
    const rendered = await createPrometheusMetrics().render();
    const known = new Set([...rendered.matchAll(/^# TYPE (\S+) /gm)].map(([, metric]) => metric));
    const named = new Set(texts[name]!.match(/\bmurmuration_[a-z][a-z0-9_]*/g));
    expect(named.size).toBeGreaterThan(5);
    expect(
      [...named].map((metric) => metric.replace(/_bucket$/, "")).filter((metric) => !known.has(metric)),
    ).toEqual([]);
  });

  it("Redis and PostgreSQL are set as the doctor wants them", () => {
    const compose = texts["compose.yaml"]!;
    expect(compose).toMatch(
      /redis-server .*--appendonly yes .*--appendfsync always .*--maxmemory-policy noeviction/,
    );
    for (const setting of ["fsync", "full_page_writes", "synchronous_commit"]) {
      expect(compose).toContain(`-c ${setting}=on`);
    }
  });

  it.each([
    ["compose.yaml", /MURMURATION_DRAIN_SECONDS: "(\d+)"/, /stop_grace_period: (\d+)s/],
    ["murmuration.service", /MURMURATION_DRAIN_SECONDS=(\d+)/, /TimeoutStopSec=(\d+)/],
  ])("%s gives a node longer to stop than it drains", (name, drain, stop) => {
    const text = texts[name]!;
    expect(seconds(text, stop)).toBeGreaterThan(seconds(text, drain) + 2);
  });

  it.skipIf(!existsSync("/usr/bin/systemd-analyze"))("systemd has nothing to say against the unit", () => {
    const folder = mkdtempSync(join(tmpdir(), "murmuration-unit-"));
    const path = join(folder, "murmuration.service");
    const unit = texts["murmuration.service"]!.replace("/usr/bin/node", process.execPath).replace(
      "/opt/murmuration",
      folder,
    );
    writeFileSync(path, unit);
    const { status, stderr } = spawnSync("/usr/bin/systemd-analyze", ["verify", path], { encoding: "utf8" });
    rmSync(folder, { recursive: true });
    expect({ status, stderr }).toEqual({ status: 0, stderr: "" });
  });
});
