import { describe, expect, test } from "vitest";
import { breakEvenMessages, conclude, formatBreakEven } from "../../../src/report/conclusion.ts";
import type { Report } from "../../../src/report/schema.ts";
import { fanoutOf, fanoutRows, handMadeReport, membershipRow, reportOf } from "./constructed.ts";

const LINEAR = (members: number) => members - 1;

/** What is said when pairwise grows with the members and MLS costs what is given. */
function answer(mls: (members: number) => number, changes: Partial<Report> = {}): readonly string[] {
  const fanout = fanoutOf(fanoutRows("pairwise-sealed", 256, LINEAR), fanoutRows("mls-warm", 256, mls));
  return conclude(reportOf({ ...fanout, ...changes })).payloads[0]!.summary;
}

describe("is 256 the right threshold?", () => {
  test("yes, when the costs cross between 255 and 256", () => {
    expect(answer(() => 254.5)).toEqual([
      "By all 7 costs of a message: yes, pairwise costs less up to 255 members and MLS from 256 on.",
    ]);
  });

  test("a lower one would do, when they cross before, and the size is named", () => {
    expect(answer(() => 100)).toEqual([
      "By all 7 costs of a message: a lower threshold would do, MLS costs less from 128 members on.",
    ]);
    expect(answer(() => 0.5)).toEqual([
      "By all 7 costs of a message: a lower threshold would do, MLS costs less from 2 members on.",
    ]);
  });

  test("a higher one would do, when pairwise still costs less there", () => {
    expect(answer(() => 500)).toEqual([
      "By all 7 costs of a message: a higher threshold would do, pairwise still costs less at 256 members.",
    ]);
  });

  test("MLS at no size, when it never costs less", () => {
    expect(answer(() => 5000)).toEqual([
      "By all 7 costs of a message: MLS costs less at no measured size, 256 or another.",
    ]);
  });

  test("any, when nothing differs", () => {
    expect(answer(LINEAR)).toEqual([
      "By all 7 costs of a message: any threshold would do, no difference was measured.",
    ]);
  });

  test("none, when which of the two costs less changes back", () => {
    expect(answer((members) => (members === 255 ? 1 : 5000))[0]).toContain("no single threshold fits");
    expect(answer((members) => (members < 200 ? 0 : 5000))[0]).toContain("no single threshold fits");
  });

  test("no answer, when only one size was measured for both", () => {
    const rows = [
      fanoutRows("pairwise-sealed", 256, LINEAR),
      fanoutRows("mls-warm", 256, LINEAR).slice(0, 1),
    ];
    expect(conclude(reportOf(fanoutOf(...rows))).payloads[0]!.summary).toEqual([
      "By all 7 costs of a message: no answer, fewer than two sizes were measured for both.",
    ]);
  });

  test("one sentence for each verdict, when the costs disagree", () => {
    const pairwise = fanoutRows("pairwise-sealed", 256, LINEAR);
    const mls = fanoutRows("mls-warm", 256, () => 100).map((row) => ({ ...row, receiverCpuUs: 5000 }));
    expect(conclude(reportOf(fanoutOf(pairwise, mls))).payloads[0]!.summary).toEqual([
      expect.stringMatching(/^By the sender's traffic, .* and the service's CPU: a lower threshold would do/),
      "By one receiver's CPU: MLS costs less at no measured size, 256 or another.",
    ]);
  });

  test("nothing is said of what is not there", () => {
    expect(conclude(reportOf())).toEqual({ payloads: [], profiles: [] });
  });
});

describe("one join and one leave", () => {
  const churn = (pairwise: number, mls: number): Pick<Report, "membership"> => ({
    membership: {
      leftOut: {},
      definitions: [],
      rows: (["add-1", "remove-1"] as const).flatMap((operation) => [
        membershipRow(operation, "pairwise-sealed", 256, pairwise),
        membershipRow(operation, "mls-warm", 256, mls),
      ]),
    },
  });

  test("are paid for by as many messages as make up for what they cost more", () => {
    // Bytes: a message saves 2 x (255 - 100), the two changes cost 2 x 2 x 5,000 more. CPU: sender, service and 255
    // receivers save 257 x (255 - 100), and the changes cost 2 x 257 x 5,000 more.
    expect(answer(() => 100, churn(0, 5000))[1]).toBe(
      "With one join and one leave in a group of 256, MLS, warm tree costs less than pairwise from 65 messages on, in bytes and in CPU of everybody together.",
    );
    expect(answer((members) => members + 10, churn(0, 5000))[1]).toBe(
      "With one join and one leave in a group of 256, MLS, warm tree never costs less than pairwise, in bytes or in CPU of everybody together.",
    );
  });

  test("break even at the first whole message that does it", () => {
    expect(breakEvenMessages(10, 5)).toEqual({ from: 2 });
    expect(breakEvenMessages(11, 5)).toEqual({ from: 3 });
    expect(breakEvenMessages(-1, 5)).toBe("always");
    expect(breakEvenMessages(0, 0)).toBe("always");
    expect(breakEvenMessages(10, 0)).toBe("never");
    expect(breakEvenMessages(10, -5)).toBe("never");
    expect(breakEvenMessages(-11, -5)).toEqual({ upTo: 2 });
  });

  test("are put in words with the right number", () => {
    expect(formatBreakEven({ from: 1 })).toBe("from 1 message on");
    expect(formatBreakEven({ upTo: 2 })).toBe("up to 2 messages");
    expect(formatBreakEven({ upTo: 0 })).toBe("only without a message");
  });

  test("are left out when they were measured for one of the two only", () => {
    const { rows } = churn(0, 5000).membership!;
    const membership = { leftOut: {}, definitions: [], rows: rows.slice(1) };
    expect(answer(() => 100, { membership })).toHaveLength(1);
  });
});

test("a day names the cheapest protocol and what ours costs beside it", () => {
  const [family] = conclude(handMadeReport()).profiles;
  expect(family).toContain(
    "A family of 8 members with 100 messages of 256 bytes, 0.01 joins and 0.01 leaves a day",
  );
  expect(family).toContain("What Murmuration does at this size, pairwise, sealed sender, costs");
});
