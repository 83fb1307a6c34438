import type { SocketsKind } from "../../src/adapters/open-socket-server.ts";
import { createConfig } from "../../src/config.ts";
import { startDeliveryService } from "../../src/main.ts";
import type { Stores } from "../../src/service/context.ts";
import { unhurried } from "./service.ts";

/** Stores that end the process when the outbox, which is not empty, is read (`outbox`) or emptied (`removeFromOutbox`). */
function dyingAt(stores: Stores, method: string): Stores {
  const mlsGroups = Object.create(stores.mlsGroups) as Stores["mlsGroups"];
  const dying: Partial<Stores["mlsGroups"]> = {
    ...(method === "outbox" && {
      outbox: async (after: number, limit: number) => {
        const waiting = await stores.mlsGroups.outbox(after, limit);
        if (waiting.length > 0) process.kill(process.pid, "SIGKILL");
        return waiting;
      },
    }),
    ...(method === "removeFromOutbox" && {
      removeFromOutbox: async (ids: readonly number[]) => {
        if (ids.length > 0) process.kill(process.pid, "SIGKILL");
        await stores.mlsGroups.removeFromOutbox(ids);
      },
    }),
  };
  return { ...stores, mlsGroups: Object.assign(mlsGroups, dying) };
}

// The service as a process of its own for tests that kill it: rates off, otherwise as an operator runs it.
const service = await startDeliveryService(
  createConfig({
    dataDirectory: process.argv[2]!,
    sockets: process.argv[5] as SocketsKind,
    limits: { ...unhurried, ...JSON.parse(process.argv[3] ?? "{}") },
  }),
  { stores: (stores) => dyingAt(stores, process.argv[4] ?? "") },
);
process.send!({ port: service.port });
process.on("SIGTERM", () => {
  void service
    .drain()
    .then(() => service.close())
    .then(() => process.disconnect());
});
