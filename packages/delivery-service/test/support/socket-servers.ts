import { describe } from "vitest";
import { loadUws } from "../../src/adapters/uws-module.ts";
import { UwsSocketServer } from "../../src/adapters/uws-socket-server.ts";
import { WsSocketServer } from "../../src/adapters/ws-socket-server.ts";
import type { SocketServer } from "../../src/ports/socket-server.ts";

/** One adapter of the port SocketServer. Its name is what the configuration calls it. */
export interface SocketAdapter {
  readonly name: "ws" | "uws";
  /** It sees a frame when it is complete: what an unfinished one has brought it can neither bound nor answer. */
  readonly wholeFramesOnly: boolean;
  /** Milliseconds that headers may take when the options say one second. */
  readonly headersTakeMs: number;
  create(): SocketServer;
}

const uws = await loadUws();

/** Every adapter that loads here: tests of sockets run on each. `npm run uws` runs them where uWebSockets.js loads. */
const socketAdapters: readonly SocketAdapter[] = [
  { name: "ws", wholeFramesOnly: false, headersTakeMs: 4_000, create: () => new WsSocketServer() },
  ...(uws === undefined
    ? []
    : [
        {
          name: "uws" as const,
          wholeFramesOnly: true,
          // Ten seconds, to the next of a clock that ticks every four; thirty in the build that `npm run uws` falls back on.
          headersTakeMs: 40_000,
          create: () => new UwsSocketServer(uws),
        },
      ]),
];

/** A story that holds whatever serves the sockets. */
export function describeOnSockets(story: string, tell: (adapter: SocketAdapter) => void): void {
  describe.each(socketAdapters)(`${story}, on $name`, tell);
}
