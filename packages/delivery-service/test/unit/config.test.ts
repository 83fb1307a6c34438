import { UsageError } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import { describe, expect, it } from "vitest";
import { type ConfigSources, createConfig, defaultTiming, resolveConfig } from "../../src/config.ts";
import { configKeys, environmentName } from "../../src/config-keys.ts";

const SECRET = "postgres://somebody:hunter22hunter22@db.example:5432/chat";
const CLUSTER = { store: "cluster", postgresUrl: SECRET, redisUrl: "redis://cache.example:6379" };

function failure(sources: ConfigSources): { readonly code: string; readonly message: string } {
  try {
    resolveConfig(sources);
  } catch (error) {
    if (error instanceof UsageError) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("it was accepted");
}

describe("the configuration", () => {
  it("has defaults for everything, and they are those of createConfig", () => {
    expect(resolveConfig({})).toEqual(createConfig({ dataDirectory: "murmuration-data", port: 8080 }));
    expect(resolveConfig({})).toMatchObject({ engines: { kind: "embedded" }, limits, timing: defaultTiming });
  });

  it("takes the file before the defaults, the environment before the file, options before both", () => {
    const file = { port: 1, host: "a.example", maxConnections: 100 };
    const environment = { MURMURATION_PORT: "2", MURMURATION_HOST: "b.example" };
    expect(resolveConfig({ file, environment, options: { port: "3" } })).toMatchObject({
      port: 3,
      host: "b.example",
      maxConnections: 100,
    });
    expect(resolveConfig({ file, environment, options: { port: undefined } }).port).toBe(2);
  });

  it("takes an empty variable for none: that is how container platforms leave one out", () => {
    expect(resolveConfig({ file: { port: 7 }, environment: { MURMURATION_PORT: "" } }).port).toBe(7);
  });

  it("names the engines of a cluster", () => {
    const file = { ...CLUSTER, postgresSchema: "chat", postgresWriters: 3, redisPrefix: "chat:" };
    expect(resolveConfig({ file }).engines).toEqual({
      kind: "cluster",
      postgres: { url: SECRET, schema: "chat", writers: 3, readers: 4 },
      redis: { url: "redis://cache.example:6379", prefix: "chat:" },
      nodes: 2,
    });
  });

  it("wakes nobody without a push gateway, and says that the gateway's secret is missing without saying it", () => {
    expect(resolveConfig({}).pushGateway).toBeUndefined();
    const file = { pushGateway: "http://push.example:8090/", pushSecret: "s".repeat(32) };
    expect(resolveConfig({ file }).pushGateway).toEqual({
      url: "http://push.example:8090",
      secret: "s".repeat(32),
    });
    expect(() => resolveConfig({ file: { pushGateway: file.pushGateway } })).toThrow(
      /^config\/missing: .*pushSecret/,
    );
    expect(() => resolveConfig({ file: { ...file, pushSecret: "short" } })).toThrow(
      /^config\/invalid: .*pushSecret/,
    );
  });

  it("counts seconds and MiB where the service counts milliseconds and bytes", () => {
    const file = {
      drainSeconds: 25,
      reconnectSeconds: 3,
      slowReaderSeconds: 4,
      certificateHours: 2,
      validatorMib: 8,
    };
    expect(resolveConfig({ file })).toMatchObject({
      validatorBytes: 8 * 1024 * 1024,
      timing: {
        drainTimeoutMs: 25_000,
        reconnectAfterMs: 3_000,
        slowReaderMs: 4_000,
        certificateLifetimeMs: 7_200_000,
      },
    });
  });

  it("has a key for each rate of the wire", () => {
    for (const [name, rate] of Object.entries(limits.rates)) {
      const key = `rate${name[0]!.toUpperCase()}${name.slice(1)}`;
      expect(configKeys).toHaveProperty([key, "fallback"], rate);
    }
    const environment = { MURMURATION_RATE_CLAIMS_PER_PAIR: "12/0.5" };
    expect(resolveConfig({ environment }).limits.rates.claimsPerPair).toEqual({ burst: 12, perMinute: 0.5 });
  });

  it("reads invite codes as a list and as a text", () => {
    const codes = ["a-code-of-some-length", "another-code-of-length"];
    const registration = { kind: "invite", codes: [{ length: 21 }, { length: 22 }] };
    const environment = { MURMURATION_REGISTRATION: "invite", MURMURATION_INVITE_CODES: codes.join(", ") };
    expect(resolveConfig({ environment }).registration).toMatchObject(registration);
    const file = { registration: "invite", inviteCodes: codes };
    expect(resolveConfig({ file }).registration).toMatchObject(registration);
  });

  it("has no two keys that are one variable", () => {
    const names = Object.keys(configKeys).map(environmentName);
    expect(new Set(names).size).toBe(names.length);
  });
});

describe("a secret", () => {
  const readSecret = (path: string) => {
    if (path !== "/run/secrets/postgres") throw new Error(`no such file: ${path}`);
    return `${SECRET}\n`;
  };

  it("comes from a file that the environment or the configuration file names", () => {
    const { postgresUrl: _, ...file } = CLUSTER;
    const environment = { MURMURATION_POSTGRES_URL_FILE: "/run/secrets/postgres" };
    const expected = { kind: "cluster", postgres: { url: SECRET } };
    expect(resolveConfig({ file, environment, readSecret }).engines).toMatchObject(expected);
    const named = { ...file, postgresUrlFile: "/run/secrets/postgres" };
    expect(resolveConfig({ file: named, readSecret }).engines).toMatchObject(expected);
  });

  it("is not given twice in one place", () => {
    const file = { ...CLUSTER, postgresUrlFile: "/run/secrets/postgres" };
    const { code, message } = failure({ file, readSecret });
    expect(code).toBe("config/invalid");
    expect(message).toContain('"postgresUrl" in the configuration file and "postgresUrlFile"');
  });

  it.each([
    ["in a file that is not there", { ...CLUSTER, postgresUrl: undefined, postgresUrlFile: "/hunter22" }],
    ["of the wrong kind", { ...CLUSTER, postgresUrl: "mysql://hunter22@db.example" }],
    ["that is a number", { ...CLUSTER, postgresUrl: 22 }],
    ["that is too short", { registration: "invite", inviteCodes: ["hunter22"] }],
  ])("%s is named and not shown", (_, file) => {
    const { code, message } = failure({ file, readSecret });
    expect(code).toBe("config/invalid");
    expect(message).toMatch(/"(?:postgresUrl|postgresUrlFile|inviteCodes)" in the configuration file/);
    expect(message).not.toMatch(/hunter22|22/);
  });
});

describe("what is wrong is said with the key, the kind of what was given, and what the key takes", () => {
  it.each<[string, ConfigSources, string]>([
    [
      "a text in the place of a number",
      { file: { port: "8080" } },
      'config/invalid: "port" in the configuration file takes a whole number from 0 to 65535; it was given another text.',
    ],
    [
      "a number that is too large",
      { environment: { MURMURATION_PORT: "65536" } },
      "config/invalid: MURMURATION_PORT takes a whole number from 0 to 65535; it was given another text.",
    ],
    [
      "an option",
      { options: { logLevel: "loud" } },
      "config/invalid: --log-level takes one of debug, info, warn, error, silent; it was given another text.",
    ],
    [
      "a list in the place of the file's object",
      { file: [] },
      "config/invalid: The configuration file takes one JSON object; it was given a list.",
    ],
    [
      "a key with a slip",
      { file: { maxConections: 5 } },
      'config/unknown-key: The configuration file has no key "maxConections". Is "maxConnections" meant?',
    ],
    [
      "a key that is like none",
      { file: { shards: 5 } },
      'config/unknown-key: The configuration file has no key "shards"; docs/operations.md lists all keys.',
    ],
    [
      "a variable with a slip",
      { environment: { MURMURATION_REDIS_ULR: "redis://x" } },
      "config/unknown-key: There is no variable MURMURATION_REDIS_ULR. Is MURMURATION_REDIS_URL meant?",
    ],
    [
      "a cluster without engines",
      { file: { store: "cluster" } },
      'config/missing: "postgresUrl" is needed where "store" is cluster: set it in the file, as MURMURATION_POSTGRES_URL, or name a file with it in MURMURATION_POSTGRES_URL_FILE.',
    ],
    [
      "invitations without codes",
      { file: { registration: "invite" } },
      'config/missing: "inviteCodes" is needed where "registration" is invite: list at least one.',
    ],
  ])("%s", (_, sources, message) => {
    expect(failure(sources).message).toBe(message);
  });

  it("a key that would move a terminal's cursor is shown without its power", () => {
    expect(failure({ file: { "port\u001b[2J": 1 } }).message).not.toContain("\u001b");
  });

  it("variables that a container platform adds by itself are nobody's slip", () => {
    const environment = {
      MURMURATION_SERVICE_HOST: "10.0.0.1",
      MURMURATION_8080_TCP_ADDR: "10.0.0.1",
      MURMURATION_HOME: "/x",
    };
    expect(resolveConfig({ environment })).toEqual(resolveConfig({}));
  });
});
