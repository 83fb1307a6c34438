import { describe, expect, it } from "vitest";
import type { EngineProbe } from "../../src/ports/engine-probe.ts";
import type { Metrics } from "../../src/ports/environment.ts";
import { Readiness } from "../../src/service/readiness.ts";

/** Time that passes when a test says so. */
class HandClock {
  private timers: { at: number; run: () => void }[] = [];
  private time = 0;

  now(): number {
    return this.time;
  }

  after(delayMs: number, run: () => void): () => void {
    const timer = { at: this.time + delayMs, run };
    this.timers.push(timer);
    return () => {
      this.timers = this.timers.filter((other) => other !== timer);
    };
  }

  async pass(ms: number): Promise<void> {
    this.time += ms;
    const due = this.timers.filter(({ at }) => at <= this.time);
    this.timers = this.timers.filter(({ at }) => at > this.time);
    for (const { run } of due) run();
    await settled();
  }
}

const settled = () => new Promise((resolve) => setImmediate(resolve));

class Engine implements EngineProbe {
  readonly name: EngineProbe["name"];
  asked = 0;
  private answer: () => Promise<unknown> = async () => {};

  constructor(name: EngineProbe["name"]) {
    this.name = name;
  }

  fails(): void {
    this.answer = () => Promise.reject(new Error("refused"));
  }

  hangs(): { readonly answer: () => void } {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.answer = () => promise;
    return { answer: resolve };
  }

  ask(): Promise<unknown> {
    this.asked++;
    return this.answer();
  }
}

function opened() {
  const clock = new HandClock();
  const [postgres, redis] = [new Engine("postgresql"), new Engine("redis")];
  const gauges = new Map<string, number>();
  const metrics = {
    gauge: (_: string, value: number, label: string) => void gauges.set(label, value),
  } as unknown as Metrics;
  const readiness = new Readiness([postgres, redis], clock, metrics);
  return { clock, postgres, redis, gauges, readiness };
}

describe("readiness", () => {
  it("names the engines that do not answer, here and in the metrics", async () => {
    const { redis, gauges, readiness } = opened();
    redis.fails();
    expect(await readiness.gone()).toEqual(["redis"]);
    expect(Object.fromEntries(gauges)).toEqual({ postgresql: 1, redis: 0 });
  });

  it("asks once a second, however often it is asked", async () => {
    const { clock, postgres, readiness } = opened();
    for (let i = 0; i < 50; i++) expect(await readiness.gone()).toEqual([]);
    expect(postgres.asked).toBe(1);
    await clock.pass(1_000);
    postgres.fails();
    expect(await readiness.gone()).toEqual(["postgresql"]);
  });

  it("waits two seconds for an engine that hangs, and asks it no second time before it has answered", async () => {
    const { clock, redis, readiness } = opened();
    const hanging = redis.hangs();
    const first = readiness.gone();
    await clock.pass(1_999);
    expect(await Promise.race([first, settled().then(() => "waits")])).toBe("waits");
    await clock.pass(1);
    expect(await first).toEqual(["redis"]);
    await clock.pass(1_000);
    const second = readiness.gone();
    expect(redis.asked).toBe(1);
    hanging.answer();
    expect(await second).toEqual([]);
    await clock.pass(1_000);
    await readiness.gone();
    expect(redis.asked).toBe(2);
  });
});
