import type { Command } from "../command.ts";

/** Loaded by the commands that need it: the others start without the service and its engines, in half the time. */
export const deliveryService = () => import("@murmuration/delivery-service");

/** Where the configuration of a service is, for each command that works on one. */
export const configOption = {
  config: { value: "FILE", help: "configuration in JSON; docs/operations.md lists its keys" },
} as const;

export const serve: Command = {
  path: ["serve"],
  summary: "Runs a delivery service, or one node of several.",
  operands: [],
  homeless: true,
  options: {
    ...configOption,
    port: {
      value: "PORT",
      help: "port to listen on; 0 picks a free one (default: 8080)",
      between: [0, 65_535],
    },
    host: { value: "ADDRESS", help: "address to listen on (default: 127.0.0.1)" },
    data: { value: "DIR", help: "folder of the embedded store (default: murmuration-data)" },
    store: {
      value: "ENGINES",
      help: "embedded or cluster (default: embedded)",
      oneOf: ["embedded", "cluster"],
    },
    "invite-code": { value: "CODE", help: "only register accounts that bring this code" },
    "drain-seconds": { value: "SECONDS", help: "how long SIGTERM waits (default: 10)", between: [1, 3_600] },
    "log-level": {
      value: "LEVEL",
      help: "debug, info, warn, error or silent (default: info)",
      oneOf: ["debug", "info", "warn", "error", "silent"],
    },
  },
  notes:
    "Each key of the file is also a variable, MURMURATION_POSTGRES_URL for postgresUrl, and a file with a secret in it,\n" +
    "MURMURATION_POSTGRES_URL_FILE. A variable overrides the file, an option overrides both.\n" +
    "It prints its address once it listens. SIGTERM or SIGINT drains it: clients are told to come back later,\n" +
    "and what was accepted is on disk. Put TLS in front of it wherever it can be reached by others.",
  async run({ options, print, signal }) {
    const { readConfig, runUntilStopped } = await deliveryService();
    const inviteCode = options.text("invite-code");
    const config = readConfig({
      path: options.text("config"),
      options: {
        port: options.text("port"),
        host: options.text("host"),
        data: options.text("data"),
        store: options.text("store"),
        drainSeconds: options.text("drain-seconds"),
        logLevel: options.text("log-level"),
        ...(inviteCode !== undefined && { registration: "invite", inviteCodes: inviteCode }),
      },
    });
    await runUntilStopped(config, signal, (port) => {
      const host = config.host.includes(":") ? `[${config.host}]` : config.host;
      print(`listening on http://${host}:${port}`);
    });
    // What an engine that hangs holds open must not keep a process that has drained.
    setTimeout(() => process.exit(), 500).unref();
    return 0;
  },
};
