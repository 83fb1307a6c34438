import { once } from "node:events";
import { utf8 } from "@murmuration/base";
import { createConfig, startDeliveryService } from "@murmuration/delivery-service";
import { WrongUsage } from "../arguments.ts";
import type { Command } from "../command.ts";

const LEVELS = ["debug", "info", "warn", "error", "silent"] as const;
const MIN_INVITE_CODE = 16;

export const serve: Command = {
  path: ["serve"],
  summary: "Runs a delivery service with its embedded store.",
  operands: [],
  homeless: true,
  options: {
    port: {
      value: "PORT",
      help: "port to listen on; 0 picks a free one (default: 8080)",
      between: [0, 65_535],
    },
    host: { value: "ADDRESS", help: "address to listen on (default: 127.0.0.1)" },
    data: { value: "DIR", help: "folder of the store (default: murmuration-data)" },
    "invite-code": { value: "CODE", help: "only register accounts that bring this code" },
    "log-level": { value: "LEVEL", help: `one of ${LEVELS.join(", ")} (default: warn)`, oneOf: LEVELS },
  },
  notes:
    "It prints its address once it listens. SIGTERM or SIGINT drains it: clients are told to come back later,\n" +
    "and what was accepted is on disk. Put TLS in front of it wherever it can be reached by others.",
  async run({ options, print, signal }) {
    const logLevel = LEVELS.find((level) => level === options.text("log-level")) ?? "warn";
    const code = options.text("invite-code");
    if (code !== undefined && code.length < MIN_INVITE_CODE) {
      throw new WrongUsage(`--invite-code takes at least ${MIN_INVITE_CODE} characters.`);
    }
    const host = options.text("host") ?? "127.0.0.1";
    const service = await startDeliveryService(
      createConfig({
        dataDirectory: options.text("data") ?? "murmuration-data",
        host,
        port: options.integer("port") ?? 8080,
        logLevel,
        registration: code === undefined ? { kind: "open" } : { kind: "invite", codes: [utf8(code)] },
      }),
    );
    print(`listening on http://${host.includes(":") ? `[${host}]` : host}:${service.port}`);
    if (!signal.aborted) await once(signal, "abort");
    await service.drain();
    await service.close();
    return 0;
  },
};
