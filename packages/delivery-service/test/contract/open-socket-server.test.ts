import { expect, it } from "vitest";
import { openSocketServer, type SocketsKind } from "../../src/adapters/open-socket-server.ts";
import { loadUws } from "../../src/adapters/uws-module.ts";
import { UwsSocketServer } from "../../src/adapters/uws-socket-server.ts";
import { WsSocketServer } from "../../src/adapters/ws-socket-server.ts";

const loads = (await loadUws()) !== undefined;

async function open(kind: SocketsKind) {
  const logged: unknown[] = [];
  const info = (event: string, fields?: object) => void logged.push({ event, ...fields });
  const server = await openSocketServer(kind, { info, warn: info, error: info });
  return { server, logged };
}

it("the log says what serves the sockets: what was asked for, or uWebSockets.js where it loads", async () => {
  const ws = await open("ws");
  expect(ws.server).toBeInstanceOf(WsSocketServer);
  expect(ws.logged).toEqual([{ event: "sockets", implementation: "ws" }]);
  const auto = await open("auto");
  expect(auto.server).toBeInstanceOf(loads ? UwsSocketServer : WsSocketServer);
  expect(auto.logged).toEqual([{ event: "sockets", implementation: loads ? "uws" : "ws" }]);
});

it.skipIf(loads)(
  "asked for where it does not load, uWebSockets.js is an error that says how to install it",
  async () => {
    await expect(open("uws")).rejects.toMatchObject({
      code: "sockets/uws-does-not-load",
      message: expect.stringContaining("npm install uNetworking/uWebSockets.js#v"),
    });
  },
);
