import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { fenceOf } from "../../src/fanout/accounts.ts";
import { decodeMultiRecipient, encodeMultiRecipient, webSocketBytes } from "../../src/fanout/frames.ts";
import { driftOf, judgeReports } from "../../src/report/compare.ts";
import { dailySection, profilesOf } from "../../src/report/daily.ts";
import { growthSection } from "../../src/report/growth.ts";
import type { FanoutRow, FanoutSection, MembershipSection, Report } from "../../src/report/schema.ts";
import { protocols, REPORT_SCHEMA } from "../../src/report/schema.ts";
import { rowsOf } from "../../src/report/vectors.ts";

const path = new URL("../fixtures/hand-made-report-not-results.json", import.meta.url);
const handMade = JSON.parse(readFileSync(path, "utf8")) as Report;
const bounds = { time: 1.5, exact: 1.02 };

/** The hand-made report with its fan-out rows changed. */
function withRows(change: (row: FanoutRow) => Partial<FanoutRow>): Report {
  const fanout = handMade.fanout!;
  return { ...handMade, fanout: { ...fanout, rows: fanout.rows.map((row) => ({ ...row, ...change(row) })) } };
}

const regressed = (after: Report) =>
  judgeReports(handMade, after, bounds)
    .filter((each) => each.regressed)
    .map(({ what }) => what);

describe("the hand-made report for tests of the page", () => {
  test("has every section of the schema, and says that it holds no results", () => {
    expect(handMade.schema).toBe(REPORT_SCHEMA);
    expect(handMade.seed).toContain("not results");
    for (const name of ["fanout", "membership", "mls", "growth", "counts", "daily", "vectors"] as const) {
      expect(handMade[name], name).toBeDefined();
    }
    expect(handMade.fanout!.spreads).toHaveLength(handMade.fanout!.rows.length);
  });
});

describe("comparing two reports", () => {
  test("of the same figures finds nothing", () => {
    expect(regressed(handMade)).toEqual([]);
  });

  test("finds bytes that grew in one row", () => {
    const worse = withRows((row) =>
      row.protocol === "mls-warm" && row.members === 128 ? { storedBytes: row.storedBytes * 1.1 } : {},
    );
    expect(regressed(worse)).toHaveLength(3);
  });

  test("takes one disturbed row for noise, and a protocol that became slower for a regression", () => {
    const disturbed = withRows((row) => (row.members === 8 ? { dsCpuUs: row.dsCpuUs * 5 } : {}));
    expect(regressed(disturbed)).toEqual([]);
    const slower = withRows((row) => (row.protocol === "mls-cold" ? { dsCpuUs: row.dsCpuUs * 2 } : {}));
    expect(regressed(slower)).toEqual(["fanout mls-cold dsCpuUs"]);
  });

  /** Everything in the fan-out takes so many times as long. */
  const slowed = (factor: number) =>
    withRows((row) => ({
      senderCpuUs: row.senderCpuUs * factor,
      dsCpuUs: row.dsCpuUs * factor,
      receiverCpuUs: row.receiverCpuUs * factor,
    }));

  test("takes what slows a whole section for the machine's weather", () => {
    expect(regressed(slowed(2))).toEqual([]);
  });

  test("finds a section that became slower altogether where the machine's primitives did not", () => {
    const slower = slowed(3);
    expect(regressed(slower)).toEqual(["fanout, all of it, beside the primitives"]);
    const primitivesUs = Object.fromEntries(
      Object.entries(handMade.primitivesUs).map(([name, us]) => [name, us * 3]),
    );
    expect(driftOf(handMade, { ...slower, primitivesUs })).toBe(3);
    expect(regressed({ ...slower, primitivesUs })).toEqual([]);
  });

  test("finds one slower protocol in a section that the weather made faster", () => {
    const rows = slowed(0.5).fanout!.rows.map((row) =>
      row.protocol === "mls-cold" ? { ...row, dsCpuUs: row.dsCpuUs * 2 } : row,
    );
    expect(regressed({ ...handMade, fanout: { ...handMade.fanout!, rows } })).toEqual([
      "fanout mls-cold dsCpuUs",
    ]);
  });

  test("holds the engine to what its peers took beside it, and judges no peer", () => {
    const mls = handMade.mls!;
    const slowest = (implementation: string) => ({
      ...handMade,
      mls: {
        ...mls,
        rows: mls.rows.map((row) =>
          row.implementation === implementation && row.operation === "application-create"
            ? { ...row, bestMs: row.bestMs! * 2, medianMs: row.medianMs! * 2 }
            : row,
        ),
      },
    });
    expect(regressed(slowest("murmuration"))).toEqual(["mls application-create"]);
    expect(regressed(slowest("ts-mls-native"))).toEqual([]);
  });
});

describe("daily totals", () => {
  const rows = protocols.map((protocol) => ({
    protocol,
    members: 8,
    payloadBytes: 256,
    senderBytes: 1_000,
    storedBytes: 500,
    egressBytes: 700,
    receiverBytes: 100,
    senderCpuUs: 70,
    dsCpuUs: 50,
    receiverCpuUs: 10,
  }));
  const spread = { leastUs: 1, mostUs: 1 };
  const fanout: FanoutSection = {
    rows,
    spreads: rows.map(({ members, payloadBytes, protocol }) => ({
      protocol,
      members,
      payloadBytes,
      senderUploadBytes: 900,
      runs: 1,
      receiversTimed: 1,
      senderCpu: spread,
      dsCpu: spread,
      receiverCpu: spread,
    })),
    definitions: [],
  };
  const changes = protocols.flatMap((protocol) =>
    (["add-1", "remove-1"] as const).map((operation) => ({
      ...rows[0]!,
      operation,
      protocol,
      changed: 1,
      senderUploadBytes: 1_000,
      newcomerBytes: null,
      newcomerCpuUs: null,
      runs: 1,
    })),
  );
  const membership: MembershipSection = { rows: changes, leftOut: {}, definitions: [] };

  test("are the sum of what was measured, for each member and for the service", () => {
    const { rows: days } = dailySection(profilesOf(80, 0), fanout, membership);
    expect(days.find(({ protocol }) => protocol === "mls-warm")).toEqual({
      profile: "family",
      protocol: "mls-warm",
      memberUploadBytes: (80 * 900) / 8,
      memberDownloadBytes: (80 * (100 + 7 * 100)) / 8,
      memberCpuUs: (80 * (70 + 7 * 10)) / 8,
      dsIngressBytes: 80 * 900,
      dsStoredBytes: 80 * 500,
      dsEgressBytes: 80 * (700 + 100),
      dsCpuUs: 80 * 50,
      churnEgressBytes: 0,
      churnMemberCpuUs: 0,
    });
  });

  test("let every sender of sender keys give out its key, beside what the group does", () => {
    const churnOf = (name: string) =>
      dailySection(profilesOf(0, 1), fanout, membership).rows.find(({ protocol }) => protocol === name)!
        .churnEgressBytes;
    expect(churnOf("pairwise-sealed")).toBe(2 * 700);
    expect(churnOf("sender-key-sealed")).toBe(2 * 700 + 8 * 2 * 700);
  });

  test("are left out, with the reason, where a size was not measured", () => {
    const { leftOut, rows: days } = dailySection(profilesOf(null, null), fanout, membership);
    expect(days.every(({ profile }) => profile === "family")).toBe(true);
    expect(leftOut["club pairwise"]).toBe(
      "the fan-out at 200 members and 256 bytes was not measured in this run",
    );
  });
});

test("growth is shown only for sizes that were measured at N and at 16 N", () => {
  const { rows } = growthSection(handMade.fanout, undefined)!;
  expect(new Set(rows.map(({ members }) => members))).toEqual(new Set([2, 8]));
  for (const row of rows) expect(row.largeMembers).toBe(16 * row.members);
});

test("the vector runner's lines become rows", () => {
  const output =
    "tree-math.json: 10 passed, 1 failed\ntree-math.json: 2 skipped, cipher suite 77 is none of RFC 9420\n";
  const files = [
    { file: "tree-math", cases: 13 },
    { file: "welcome", cases: 7 },
  ] as const;
  expect(rowsOf({ source: "official", files }, output)).toEqual([
    { source: "official", file: "tree-math", cases: 13, passed: 10, failed: 1, skipped: 2 },
    {
      source: "official",
      file: "welcome",
      cases: 7,
      passed: 0,
      failed: 0,
      skipped: 0,
      missing: "the runner ran no case",
    },
  ]);
});

describe("frames of the fan-out", () => {
  test("carry a WebSocket header by their length, and a mask from the client", () => {
    expect([125, 126, 65_535, 65_536].map((length) => webSocketBytes(length, "service") - length)).toEqual([
      2, 4, 4, 10,
    ]);
    expect(webSocketBytes(10, "client")).toBe(16);
  });

  test("with many recipients come back as they were", () => {
    const message = new Uint8Array(70_000).fill(7);
    const fence = fenceOf("a seed");
    const decoded = decodeMultiRecipient(encodeMultiRecipient(message, fence, "a name"));
    expect(decoded.message).toEqual(message);
    expect(decoded.fence).toEqual(fence.fence);
    expect(decoded.requestId).toBe(1);
    expect(decoded.submitId).toHaveLength(16);
  });
});
