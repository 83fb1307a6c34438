import { groupId } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import { expect, test } from "vitest";
import type { GroupReader } from "../../src/service/group-delivery.ts";
import type { GroupHub, GroupInUse } from "../../src/service/group-hub.ts";
import { Refeeding } from "../../src/service/group-refeeds.ts";
import { random } from "../support/random.ts";

// The fault that this finds: bytes that count as waiting for good, until nobody can feed a service any more.
test("a frame whose connection ends while its rate is asked for leaves nothing behind", async () => {
  let allow = () => {};
  const asked = new Promise<void>((resolve) => {
    allow = resolve;
  });
  const hub = {
    waitingRefeedBytes: 0,
    context: {
      limits,
      clock: { now: () => 0, after: () => () => {} },
      metrics: { count() {} },
      rateLimits: { take: () => asked.then(() => ({ allowed: true, retryAfterMs: 0 })) },
    },
  } as unknown as GroupHub;
  const id = groupId(random(16));
  const reader = { name: "leaf", group: { groupId: id }, member: async () => ({}) } as unknown as GroupReader;
  const refeeding = new Refeeding(hub, { remoteAddress: "192.0.2.1", challenge: random(32) });
  const commits = [{ commit: random(100), proposals: [] }];
  const taken = refeeding.take({} as GroupInUse, reader, { groupId: id, commits, agreedSequence: 0 });
  const outcome = expect(taken).rejects.toThrow("group/not-open");
  refeeding.end();
  allow();
  await outcome;
  expect(hub.waitingRefeedBytes).toBe(0);
});
