import { describe, expect, test } from "vitest";
import { type DemoReport, formatReport, isClean } from "../../src/demo/report.ts";
import { createProgress, progressLine } from "../../src/progress.ts";

const report: DemoReport = {
  members: 8,
  protocol: "pairwise",
  messages: 50,
  deliveries: 350,
  lost: 0,
  duplicated: 0,
  senderBytesPerMessage: 6123,
  receiverBytesPerMessage: 812,
  senderCpuUsPerMessage: 4321,
  receiverCpuUsPerMessage: 1234,
  dsCpuUsPerMessage: 987,
  lastMemberMsMedian: 55,
  kills: 6,
  restarts: 6,
  processIds: [1, 2, 3],
  wallMs: 21_345,
  seed: 9,
};

describe("the table", () => {
  test("says what was counted, aligned, and the verdict in words", () => {
    const text = formatReport(report, 5);
    expect(text).toMatch(/members +8 \(pairwise\)\n/);
    expect(text).toMatch(/sender, per message, with its receipts +6,123 bytes, 4\.32 ms CPU\n/);
    expect(text).toMatch(/6 and 6; 5 hit a message under way\n/);
    expect(text).toMatch(/time +21\.3 s\n/);
    expect(text).toContain("Every message is exactly once");
  });

  test("a loss and a double are never clean", () => {
    for (const bad of [
      { ...report, lost: 1 },
      { ...report, duplicated: 1 },
    ]) {
      expect(isClean(bad)).toBe(false);
      expect(formatReport(bad, 0)).toContain("LOST OR DOUBLED");
    }
  });
});

describe("the table of a move", () => {
  const moved: DemoReport = {
    ...report,
    protocol: "mls",
    timeline: [
      { atMs: 90, what: "preparing" },
      { atMs: 1234, what: "the creator has switched" },
    ],
    longestGapMs: 1999,
    longestSilenceMs: 210,
    messagesPairwise: 30,
    messagesMls: 20,
    reordered: 0,
  };

  test("begins with what happened when", () => {
    const text = formatReport(moved, 0);
    expect(text).toMatch(/^ {5}90 ms {2}preparing\n {2}1,234 ms {2}the creator has switched\n\n/);
    expect(text).toMatch(/carried +30 pairwise, 20 by MLS\n/);
    expect(text).toMatch(/longest gap between two messages at a member +1,999 ms\n/);
    expect(text).toMatch(/longest time in which nobody got one +210 ms\n/);
    expect(text).toContain("in its sender's order");
  });

  test("a message out of order is never clean", () => {
    expect(isClean(moved)).toBe(true);
    expect(isClean({ ...moved, reordered: 1 })).toBe(false);
    expect(formatReport({ ...moved, reordered: 1 }, 0)).toContain("OUT OF ORDER");
  });
});

describe("progress", () => {
  test("a line shows the share and fits the terminal", () => {
    expect(progressLine("sending", 5, 10, 80)).toBe(`[${"#".repeat(15)}${".".repeat(15)}] 5/10 sending`);
    expect(progressLine("sending", 0, 0, 80)).toContain("#".repeat(30));
    expect(progressLine("sending", 5, 10, 20)).toHaveLength(19);
  });

  test("is a bar on a terminal and one line a stage elsewhere", () => {
    const drawn = (isTTY: boolean): string => {
      let written = "";
      const progress = createProgress({ isTTY, columns: 60, write: (text) => (written += text) });
      progress.stage("first", 2);
      progress.step();
      progress.end();
      return written;
    };
    expect(drawn(false)).toBe("first\n");
    expect(drawn(true)).toContain("1/2 first");
    expect(drawn(true).endsWith("\r\u001b[2K")).toBe(true);
  });

  test("says how far a long stage is every ten seconds where there is no terminal", () => {
    let written = "";
    let nowMs = 0;
    const progress = createProgress({ write: (text) => (written += text) }, () => nowMs);
    progress.stage("first", 3);
    for (nowMs of [9_999, 10_000, 10_001]) progress.step();
    expect(written).toBe("first\nfirst: 2 of 3\n");
  });
});
