/** A worker for the tests of the worker protocol. */
import { UnavailableError } from "@murmuration/base";
import { WorkerProcess } from "../../src/processes.ts";
import { serveRequests } from "../../src/serve-requests.ts";

serveRequests(
  {
    echo: (value: unknown) => value,
    refuse: () => {
      throw new UnavailableError("test/refused");
    },
    hang: () => new Promise(() => undefined),
    exit: () => process.exit(3),
    chatter: () => {
      console.log("not an answer");
      console.log('{"id":17,"value":"nobody asked"}');
      return "done";
    },
    async another() {
      const worker = new WorkerProcess(new URL("./talking-worker.ts", import.meta.url));
      await worker.request("echo");
      return worker.pid;
    },
    async anotherBusy() {
      const worker = new WorkerProcess(new URL("./talking-worker.ts", import.meta.url));
      await worker.request("echo");
      worker.request("busy").catch(() => undefined);
      return worker.pid;
    },
    /** Blocks so that the end of standard input goes unnoticed. */
    busy: () => {
      for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60_000);
    },
  },
  async () => undefined,
);
