import { expect, test } from "vitest";
import { ProcessEnded, WorkerFailure, WorkerProcess } from "../../src/processes.ts";
import { until } from "../../src/world.ts";

const start = () => new WorkerProcess(new URL("../support/talking-worker.ts", import.meta.url));

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

test("requests are answered by number, in any order, and everything else is the worker's log", async () => {
  await using worker = start();
  const values = [{ text: "line\nbreak" }, { list: [1, 2] }, {}];
  expect(await Promise.all(values.map((value) => worker.request("echo", value)))).toEqual(values);
  expect(await worker.request("chatter")).toBe("done");
  await expect(worker.request("refuse")).rejects.toThrow(new WorkerFailure("refuse", "test/refused"));
  await expect(worker.request("toString")).rejects.toThrow("unknown operation");
  await expect(worker.request("hang", {}, 100)).rejects.toThrow("hang: no answer in 100 ms");
  expect(await worker.request("echo", { still: "there" })).toEqual({ still: "there" });
});

test("a killed worker is gone when `kill` resolves, and whoever waits for an answer learns it", async () => {
  const worker = start();
  await worker.request("echo");
  const hanging = expect(worker.request("hang")).rejects.toThrow(ProcessEnded);
  expect(exists(worker.pid)).toBe(true);
  await worker.kill();
  await hanging;
  expect(exists(worker.pid)).toBe(false);
  await expect(worker.request("echo")).rejects.toThrow(ProcessEnded);
  await worker.close();
});

test("a worker that ends by itself is noticed, and closing it again does nothing", async () => {
  const worker = start();
  await expect(worker.request("exit")).rejects.toThrow(ProcessEnded);
  expect(worker.alive).toBe(false);
  await worker.close();
  await worker.kill();
});

test("a worker that does not end by itself is killed when it is closed", async () => {
  const worker = start();
  await worker.request("echo");
  worker.request("busy").catch(() => undefined);
  await worker.close();
  expect(exists(worker.pid)).toBe(false);
});

test("when the process that started a worker is killed, the worker ends as well", async () => {
  const parent = start();
  const child = await parent.request<number>("another");
  expect(exists(child)).toBe(true);
  await parent.kill();
  await until(() => !exists(child));
});

test("when the process that started a worker exits, even a busy worker is killed", async () => {
  const parent = start();
  const child = await parent.request<number>("anotherBusy");
  expect(exists(child)).toBe(true);
  await expect(parent.request("exit")).rejects.toThrow(ProcessEnded);
  await until(() => !exists(child));
});
