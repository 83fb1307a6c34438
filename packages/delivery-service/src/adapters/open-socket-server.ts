import { UsageError } from "@murmuration/base";
import type { Log } from "../ports/environment.ts";
import type { SocketServer } from "../ports/socket-server.ts";
import { loadUws } from "./uws-module.ts";
import { UwsSocketServer } from "./uws-socket-server.ts";
import { WsSocketServer } from "./ws-socket-server.ts";

/** `auto` is `uws` where uWebSockets.js loads, else `ws`. */
export type SocketsKind = "auto" | "ws" | "uws";

/**
 * The implementation of sockets that the configuration asks for; the log says which one it is. Rejects with UsageError
 * `sockets/uws-does-not-load` when `uws` is asked for and cannot be had.
 */
export async function openSocketServer(kind: SocketsKind, log: Log): Promise<SocketServer> {
  const uws = kind === "ws" ? undefined : await loadUws();
  if (kind === "uws" && uws === undefined) {
    throw new UsageError(
      "sockets/uws-does-not-load",
      "install it with `npm install uNetworking/uWebSockets.js#v20.57.0` on a system with glibc 2.38 or newer " +
        "(docs/uwebsockets.md), or set sockets to auto or ws",
    );
  }
  log.info("sockets", { implementation: uws === undefined ? "ws" : "uws" });
  return uws === undefined ? new WsSocketServer() : new UwsSocketServer(uws);
}
