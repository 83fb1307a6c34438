/** `npm run interop -- --port P [--host H] [--reload]`: serves mls_client.MLSClient until it is interrupted. */
import { parseArgs } from "node:util";
import { startInteropServer } from "./server.ts";

const HELP = `npm run interop -- --port P
  --port P     TCP port
  --host H     address to listen on (default 127.0.0.1)
  --reload     load each group from its stored rows before each call`;

function options() {
  try {
    const { values } = parseArgs({
      options: {
        port: { type: "string" },
        host: { type: "string", default: "127.0.0.1" },
        reload: { type: "boolean", default: false },
        help: { type: "boolean", default: false },
      },
    });
    const port = Number(values.port);
    if (!values.help && !(Number.isInteger(port) && port >= 0 && port <= 65_535)) {
      throw new Error("--port takes a number from 0 to 65535");
    }
    return { ...values, port };
  } catch (error) {
    console.error(error instanceof Error ? error.message : String(error));
    process.exit(2);
  }
}

const { port, host, reload, help } = options();
if (help) console.log(HELP);
else {
  const server = await startInteropServer(port, { reload }, host);
  console.log(`mls_client.MLSClient on ${host}:${server.port}`);
  process.once("SIGINT", () => server.close());
  process.once("SIGTERM", () => server.close());
}
