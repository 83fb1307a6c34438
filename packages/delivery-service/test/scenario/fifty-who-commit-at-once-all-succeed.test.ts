import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Stores } from "../../src/service/context.ts";
import { commitUntilAccepted, Member, startCommunity } from "../support/community.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { epochsOfCommits } from "../support/stored-log.ts";

const COMMITTERS = 50;
const MAX_REFUSED = 5;
/** Fewer, and they did not commit at once: then the run says nothing. */
const MIN_REFUSED_TOGETHER = 40;

describe("fifty who commit at once", () => {
  let service: TestService;
  let stores: Stores;
  beforeAll(async () => {
    service = await startTestService({
      stores: (opened) => {
        stores = opened;
        return opened;
      },
    });
  });
  afterAll(() => service.stop());

  it("all succeed, each after few refusals, and end in one epoch", async () => {
    const members = [await Member.register(service), ...(await Member.strangers(service, COMMITTERS - 1))];
    await startCommunity(service, members);
    for (const member of members.slice(1)) await member.open(service, 1);
    const refused = await Promise.all(members.map((member) => commitUntilAccepted(member)));
    const together = refused.reduce((a, b) => a + b);
    console.log(`refused submits: most ${Math.max(...refused)}, together ${together}`);
    expect(together).toBeGreaterThanOrEqual(MIN_REFUSED_TOGETHER);
    expect(Math.max(...refused)).toBeLessThanOrEqual(MAX_REFUSED);
    // Whoever is in the last epoch got there through the commits of all.
    const some = [members[0]!, members[1]!, members[COMMITTERS - 1]!];
    for (const member of some) await member.catchUp(1 + COMMITTERS);
    const epochs = some.map((member) => Buffer.from(member.group.epochAuthenticator()).toString("hex"));
    expect(new Set(epochs).size).toBe(1);
    expect(Number(members[0]!.group.epoch)).toBe(1 + COMMITTERS);
    // From each epoch one commit leads on, and no epoch was left out.
    const stored = await epochsOfCommits(stores, members[0]!.groupId);
    expect(stored).toEqual(Array.from({ length: 1 + COMMITTERS }, (_, epoch) => epoch));
  }, 120_000);
});
