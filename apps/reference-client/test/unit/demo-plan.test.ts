import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
  CLIENTS_PER_WORKER,
  chatter,
  foundersOf,
  MEASURED_SENDER,
  MOST_WORKERS,
  makeMovePlan,
  makePlan,
  pauseMsOf,
} from "../../src/demo/plan.ts";

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

describe("the plan of a move", () => {
  const moves = fc
    .record({
      from: fc.integer({ min: 2, max: 255 }),
      more: fc.integer({ min: 1, max: 300 }),
      seed: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
      kills: fc.boolean(),
    })
    .map(({ from, more, seed, kills }) => ({ from, to: from + more, seed, kills }));

  test("forms a group that stays pairwise until the others are added, and moves then", () => {
    fc.assert(
      fc.property(moves, (numbers) => {
        const { founders, members, move, messages } = makeMovePlan(numbers);
        const { mlsThreshold, migrationMargin, talkers } = move!;
        expect([founders, members]).toEqual([numbers.from, numbers.to]);
        expect(founders).toBeLessThan(mlsThreshold - migrationMargin);
        expect(migrationMargin).toBeGreaterThanOrEqual(0);
        expect(members).toBeGreaterThanOrEqual(mlsThreshold);
        expect(new Set(talkers).size).toBe(Math.min(5, founders));
        expect(Math.max(...talkers)).toBeLessThan(founders);
        expect(messages.every(({ part }) => part !== "eventful")).toBe(true);
      }),
      { numRuns: 100 },
    );
  });

  test("leaves the threshold where it is when the group comes to it", () => {
    expect(makeMovePlan({ from: 200, to: 300, seed: 1 }).move).toMatchObject({
      mlsThreshold: 256,
      migrationMargin: 16,
    });
    expect(makeMovePlan({ from: 6, to: 12, seed: 1 }).move).toMatchObject({ mlsThreshold: 8 });
    expect(makeMovePlan({ from: 6, to: 7, seed: 1 }).move).toMatchObject({ mlsThreshold: 7 });
  });

  test("kills the service and then the creator on the way, and only where that is wanted", () => {
    const numbers = { from: 6, to: 12, seed: 4 };
    expect(makeMovePlan(numbers).move!.kills).toEqual([]);
    const kills = makeMovePlan({ ...numbers, kills: true }).move!.kills;
    expect(kills.map(({ target }) => target)).toEqual(["service", MEASURED_SENDER]);
    expect(kills[0]!.whenReady).toBeLessThan(kills[1]!.whenReady);
    expect(kills[1]!.whenReady).toBeLessThan(1);
  });

  test("lets several talk at a steady rate, the same with the same seed, behind the planned messages", () => {
    const first = (seed: number) => {
      const plan = makeMovePlan({ from: 6, to: 12, seed });
      const said = chatter(plan);
      return { plan, said: Array.from({ length: 300 }, () => said.next().value!) };
    };
    const { plan, said } = first(7);
    expect(first(7).said).toEqual(said);
    expect(first(8).said).not.toEqual(said);
    expect(said.map(({ index }) => index)).toEqual(said.map((_, at) => plan.messages.length + at));
    expect(new Set(said.map(({ sender }) => sender))).toEqual(new Set(plan.move!.talkers));
    const mean = said.reduce((sum, { pauseMs }) => sum + pauseMs, 0) / said.length;
    expect(Math.abs(mean - pauseMsOf(plan.founders))).toBeLessThan(10);
    expect([...foundersOf(plan)]).toEqual([0, 1, 2, 3, 4, 5]);
  });
});
