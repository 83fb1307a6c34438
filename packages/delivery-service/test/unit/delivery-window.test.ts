import { envelopeId } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { afterAcknowledging, afterSending, OPEN_WINDOW, roomFor } from "../../src/core/delivery-window.ts";

const ids = (...numbers: number[]) => numbers.map(envelopeId);

describe("delivery window", () => {
  it("has room for what is not under way", () => {
    const sent = afterSending(OPEN_WINDOW, ids(4, 5, 7));
    expect(roomFor(sent, 5)).toBe(2);
    expect(roomFor(sent, 2)).toBe(0);
    expect(sent.sentThrough).toBe(7);
    expect(afterSending(sent, [])).toBe(sent);
  });

  it("an acknowledgement covers everything before it, once or twice", () => {
    const sent = afterSending(OPEN_WINDOW, ids(4, 5, 7));
    const acknowledged = afterAcknowledging(sent, envelopeId(5));
    expect(acknowledged).toEqual({ sentThrough: 7, unacknowledged: [7] });
    expect(afterAcknowledging(acknowledged, envelopeId(4))).toEqual(acknowledged);
    expect(roomFor(afterAcknowledging(acknowledged, envelopeId(7)), 5)).toBe(5);
  });

  it("refuses what was not sent on this connection", () => {
    expect(() => afterAcknowledging(OPEN_WINDOW, envelopeId(1))).toThrow("mailbox/not-delivered");
    const sent = afterSending(OPEN_WINDOW, ids(1, 2));
    expect(() => afterAcknowledging(sent, envelopeId(3))).toThrow("mailbox/not-delivered");
  });
});
