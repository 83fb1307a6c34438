import { RejectionError, UnavailableError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { MemoryPresence } from "../../src/adapters/memory-presence.ts";
import type { Clock, Metrics } from "../../src/ports/environment.ts";
import type { Presence } from "../../src/ports/presence.ts";
import type { PushWake } from "../../src/ports/push.ts";
import { PushQueue } from "../../src/service/push-queue.ts";
import { random } from "../support/random.ts";

const turn = () => new Promise((resolve) => setImmediate(resolve));

/** A queue whose time passes when the test says so, and a gateway that answers what the test says. */
function openQueue(
  answer: (wakes: readonly PushWake[]) => void | Promise<void> = () => {},
  presence: Presence = new MemoryPresence(),
) {
  const timers: { readonly delayMs: number; readonly run: () => void }[] = [];
  const counts: Record<string, number> = {};
  const requests: (readonly PushWake[])[] = [];
  const clock: Clock = {
    now: () => 0,
    after(delayMs, run) {
      const timer = { delayMs, run };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer), 1);
    },
  };
  const metrics: Metrics = {
    count: (_, label = "", by = 1) => {
      counts[label] = (counts[label] ?? 0) + by;
    },
    gauge: () => {},
    observe: () => {},
    render: async () => "",
  };
  const silent = () => {};
  const log = { info: silent, warn: silent, error: silent };
  const queue = new PushQueue(
    { clock, metrics, log, presence, random: { bytes: random } },
    {
      maxWakes: 100,
      async wake(wakes) {
        requests.push(wakes);
        await answer(wakes);
      },
    },
  );
  const pass = async () => {
    const [timer] = timers.splice(0, 1);
    timer?.run();
    await turn();
    return timer?.delayMs;
  };
  return { queue, requests, counts, pass };
}

const wakes = (count: number): PushWake[] =>
  Array.from({ length: count }, (_, index) => ({
    handle: Uint8Array.of(index >> 8, index),
    mentioned: false,
  }));

describe("the queue of wake-ups", () => {
  test("gathers what a moment brings, mixes it, and sends no more at a time than the gateway takes", async () => {
    const { counts, pass, queue, requests } = openQueue();
    const all = wakes(250);
    for (const wake of all) queue.add(wake, "somebody");
    expect(requests).toEqual([]);
    await pass();
    expect(requests.map(({ length }) => length)).toEqual([100, 100, 50]);
    const sent = requests.flat();
    expect(new Set(sent)).toEqual(new Set(all));
    expect(sent).not.toEqual(all);
    expect(counts).toEqual({ sent: 250 });
  });

  test("what is added when it has just gone idle is sent as well", async () => {
    const { pass, queue, requests } = openQueue();
    const [one, other] = wakes(2) as [PushWake, PushWake];
    queue.add(one, "one");
    while ((await pass()) !== undefined);
    queue.add(other, "other");
    await pass();
    expect(requests).toEqual([[one], [other]]);
  });

  test("asks a gateway that does not answer less and less often, then gives these wake-ups up and goes on", async () => {
    let isThere = false;
    const { counts, pass, queue } = openQueue(() => {
      if (!isThere) throw new UnavailableError("push/unavailable");
    });
    queue.add(wakes(1)[0]!, "somebody");
    const delays: (number | undefined)[] = [];
    for (let i = 0; i < 8; i++) delays.push(await pass());
    expect(delays).toEqual([250, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
    expect(counts).toEqual({ "given-up": 1 });
    isThere = true;
    queue.add(wakes(1)[0]!, "somebody");
    await pass();
    expect(counts).toEqual({ "given-up": 1, sent: 1 });
  });

  test("does not repeat what the gateway refuses", async () => {
    const { counts, pass, queue, requests } = openQueue(() => {
      throw new RejectionError("push/refused");
    });
    queue.add(wakes(1)[0]!, "somebody");
    await pass();
    await pass();
    expect(requests).toHaveLength(1);
    expect(counts).toEqual({ refused: 1 });
  });

  test("holds so many and no more, and counts those that it drops", async () => {
    const { counts, queue } = openQueue();
    const [wake] = wakes(1) as [PushWake];
    for (let i = 0; i < 50_007; i++) queue.add(wake, "somebody");
    expect(counts).toEqual({ dropped: 7 });
    await queue.stop();
  });

  test("leaves to another node who is connected there, and wakes it all the same once that node is found dead", async () => {
    const nodes = new Map<string, MemoryPresence>();
    const here = new MemoryPresence(nodes);
    const alive = new MemoryPresence(nodes);
    const dying = new MemoryPresence(nodes);
    alive.came("ann");
    dying.came("bob");
    const { counts, pass, queue, requests } = openQueue(undefined, here);
    const [ann, bob, carol] = wakes(3) as [PushWake, PushWake, PushWake];
    queue.add(ann, "ann");
    queue.add(bob, "bob");
    queue.add(carol, "carol");
    await pass();
    expect(requests).toEqual([[carol]]);
    expect(counts).toEqual({ elsewhere: 2, sent: 1 });
    await dying.close();
    while ((await pass()) !== undefined);
    expect(requests).toEqual([[carol], [bob]]);
  });

  test("stops in the middle of a pause, and takes nothing more", async () => {
    const { counts, queue, requests } = openQueue();
    queue.add(wakes(1)[0]!, "somebody");
    await queue.stop();
    queue.add(wakes(1)[0]!, "somebody");
    await turn();
    expect(requests).toEqual([]);
    expect(counts).toEqual({});
  });
});
