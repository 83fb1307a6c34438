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
