import { readFileSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { SOCKET_PATH } from "@murmuration/wire";
import { afterAll, beforeAll, expect, it } from "vitest";
import { temporaryDirectory } from "../support/service.ts";
import { type ServiceProcess, startServiceProcess } from "../support/service-process.ts";
import { describeOnSockets } from "../support/socket-servers.ts";
import { sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const WANTED = 10_000;
const HELLO_TIMEOUT_MS = 15_000;

/** Open files that this process may have; both sides of the test need one for each connection. */
function openFileLimit(): number {
  try {
    const line = readFileSync("/proc/self/limits", "utf8")
      .split("\n")
      .find((l) => l.startsWith("Max open files"));
    return Number(line?.split(/\s+/)[3] ?? Number.NaN) || Number.POSITIVE_INFINITY;
  } catch {
    return Number.POSITIVE_INFINITY;
  }
}

describeOnSockets("ten thousand connections that never authenticate", (adapter) => {
  const directory = temporaryDirectory();
  let service: ServiceProcess;
  const sockets: Socket[] = [];
  beforeAll(async () => {
    const limits = { helloTimeoutMs: HELLO_TIMEOUT_MS };
    service = await startServiceProcess(directory.path, limits, "", adapter.name);
  });
  afterAll(async () => {
    for (const socket of sockets) socket.destroy();
    await service.kill();
    directory.remove();
  });

  /** Half of them upgrade and then say nothing; the others do not even send a request. */
  function open(index: number): Promise<void> {
    return new Promise((resolve) => {
      const socket = connect({
        port: service.port,
        host: "127.0.0.1",
        localAddress: `127.0.0.${2 + (index % 8)}`,
      });
      sockets.push(socket);
      socket.on("error", () => resolve());
      socket.on("close", () => resolve());
      socket.on("connect", () => {
        if (index % 2 === 0) {
          resolve();
          return;
        }
        socket.once("data", () => resolve());
        socket.write(
          `GET ${SOCKET_PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n` +
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        );
      });
    });
  }

  it("do not exhaust the service: a client is served among them, and they are gone after the hello timeout", async () => {
    const count = Math.min(WANTED, Math.floor((openFileLimit() - 500) / 1));
    if (count < WANTED) console.log(`ONLY ${count} of ${WANTED} connections: raise the limit of open files`);
    const before = residentBytes(service.pid);
    for (let from = 0; from < count; from += 500) {
      await Promise.all(Array.from({ length: Math.min(500, count - from) }, (_, i) => open(from + i)));
    }
    const openNow = () => sockets.filter((socket) => !socket.destroyed).length;
    console.log(
      `${openNow()} connections open, ${Math.round((residentBytes(service.pid) - before) / 1e6)} MB`,
    );
    expect(openNow()).toBeGreaterThan(count * 0.9);

    const startedAt = performance.now();
    const bob = await TestDevice.register(service.base);
    const own = await TestSocket.device(service.port, bob);
    const sender = await TestSocket.anonymous(service.port);
    await sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    expect(await own.envelopes(1)).toHaveLength(1);
    expect(performance.now() - startedAt).toBeLessThan(5_000);
    expect(residentBytes(service.pid) - before).toBeLessThan(600e6);

    const timeout = Math.max(HELLO_TIMEOUT_MS + 15_000, adapter.headersTakeMs);
    await expect.poll(openNow, { timeout, interval: 500 }).toBe(0);
    expect(await sender.request({ kind: "ping" })).toEqual({ kind: "pong" });
  }, 90_000);
});

/** Resident memory of a process on Linux; 0 elsewhere. */
function residentBytes(pid: number): number {
  try {
    const match = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(match?.[1] ?? 0) * 1024;
  } catch {
    return 0;
  }
}
