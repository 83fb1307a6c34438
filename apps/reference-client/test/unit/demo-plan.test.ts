import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { CLIENTS_PER_WORKER, MEASURED_SENDER, MOST_WORKERS, makePlan } from "../../src/demo/plan.ts";

const runs = fc.record({
  members: fc.integer({ min: 2, max: 255 }),
  messages: fc.integer({ min: 1, max: 300 }),
  seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});
const always = (holds: (plan: ReturnType<typeof makePlan>) => void): void => {
  fc.assert(
    fc.property(runs, ({ members, messages, seed }) => holds(makePlan(members, messages, seed))),
    { numRuns: 200 },
  );
};

describe("the plan of a demo run", () => {
  test("is the same for the same numbers and seed, and another for another seed", () => {
    expect(makePlan(8, 50, 1)).toEqual(makePlan(8, 50, 1));
    expect(makePlan(8, 50, 1)).not.toEqual(makePlan(8, 50, 2));
  });

  test("gives the measured sender a process of its own and the others 32 to a process, or more where that would be many processes", () => {
    always(({ processes, members }) => {
      expect(processes[0]).toEqual([MEASURED_SENDER]);
      for (const process of processes) {
        expect(process.length).toBeGreaterThan(0);
        expect(process.length).toBeLessThanOrEqual(
          Math.max(CLIENTS_PER_WORKER, Math.ceil(members / MOST_WORKERS)),
        );
      }
      expect(processes.length).toBeLessThanOrEqual(1 + MOST_WORKERS);
      expect(processes.flat().sort((a, b) => a - b)).toEqual(
        Array.from({ length: members }, (_, index) => index),
      );
    });
  });

  test("warms up with few messages, measures 20 or a quarter but no more than half, and leaves the rest to the kills", () => {
    const counts = (messages: number) =>
      ["warm-up", "measured", "eventful"].map(
        (part) => makePlan(8, messages, 1).messages.filter((message) => message.part === part).length,
      );
    expect(counts(1)).toEqual([0, 1, 0]);
    expect(counts(4)).toEqual([0, 2, 2]);
    expect(counts(50)).toEqual([5, 20, 25]);
    expect(counts(100)).toEqual([10, 25, 65]);
    expect(counts(400)).toEqual([10, 100, 290]);
  });

  test("kills nothing while it measures, one thing at a time after that, and starts with the service", () => {
    always(({ kills, messages, processes }) => {
      const during = kills.map(({ duringMessage }) => duringMessage);
      expect(new Set(during).size).toBe(during.length);
      expect([...during].sort((a, b) => a - b)).toEqual(during);
      for (const { duringMessage, target } of kills) {
        expect(messages[duringMessage]!.part).toBe("eventful");
        expect(target === "service" || processes[target] !== undefined).toBe(true);
      }
      if (kills[0] !== undefined) expect(kills[0].target).toBe("service");
    });
  });

  test("with 8 members and 50 messages kills service, sender and receivers, and several members send", () => {
    const { kills, messages, processes } = makePlan(8, 50, 7);
    const homes = kills.map(({ duringMessage }) =>
      processes.findIndex((members) => members.includes(messages[duringMessage]!.sender)),
    );
    expect(kills.some(({ target }) => target === "service")).toBe(true);
    expect(kills.some(({ target }, index) => target === homes[index])).toBe(true);
    expect(kills.some(({ target }, index) => target !== "service" && target !== homes[index])).toBe(true);
    expect(new Set(messages.map(({ sender }) => sender)).size).toBeGreaterThan(2);
  });
});
