import { UnavailableError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { KeyedQueue } from "../../src/keyed-queue.ts";

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** A task that notes when it begins and ends, and lasts for some turns of the event loop. */
function task(log: string[], name: string, turns = 3): () => Promise<string> {
  return async () => {
    log.push(`${name}+`);
    for (let i = 0; i < turns; i++) await turn();
    log.push(`${name}-`);
    return name;
  };
}

describe("keyed queue", () => {
  test("operations on one queue run one after the other, in call order", async () => {
    const queue = new KeyedQueue();
    const log: string[] = [];
    const runs = ["a", "b", "c"].map((name, i) => queue.run(new Set(["x"]), task(log, name, 3 - i)));
    expect(await Promise.all(runs)).toEqual(["a", "b", "c"]);
    expect(log).toEqual(["a+", "a-", "b+", "b-", "c+", "c-"]);
  });

  test("operations on different queues overlap; one that names both waits for both", async () => {
    const queue = new KeyedQueue();
    const log: string[] = [];
    await Promise.all([
      queue.run(new Set(["x"]), task(log, "a", 5)),
      queue.run(new Set(["y"]), task(log, "b", 1)),
      queue.run(new Set(["y", "x"]), task(log, "c")),
      queue.run(new Set(["y"]), task(log, "d")),
    ]);
    expect(log).toEqual(["a+", "b+", "b-", "a-", "c+", "c-", "d+", "d-"]);
  });

  test("an exclusive operation waits for everything before it and holds up everything after it", async () => {
    const queue = new KeyedQueue();
    const log: string[] = [];
    await Promise.all([
      queue.run(new Set(["x"]), task(log, "a")),
      queue.run("all", task(log, "b")),
      queue.run(new Set(["y"]), task(log, "c")),
    ]);
    expect(log).toEqual(["a+", "a-", "b+", "b-", "c+", "c-"]);
  });

  test("a failed operation rejects for its caller only", async () => {
    const queue = new KeyedQueue();
    const failed = queue.run(new Set(["x"]), async () => {
      throw new RangeError("mine");
    });
    const next = queue.run(new Set(["x"]), async () => "next");
    await expect(failed).rejects.toThrow(RangeError);
    expect(await next).toBe("next");
  });

  test("more than 4,096 waiting operations are refused, and the queue serves again afterwards", async () => {
    const queue = new KeyedQueue();
    const waiting = Array.from({ length: 4_096 }, () => queue.run(new Set(["x"]), async () => {}));
    await expect(queue.run(new Set(["x"]), async () => {})).rejects.toThrow(UnavailableError);
    await Promise.all(waiting);
    expect(await queue.run(new Set(["x"]), async () => "served")).toBe("served");
  });
});
