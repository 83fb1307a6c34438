import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { commitUntilAccepted, Member, startCommunity } from "../support/community.ts";
import { startTestService, type TestService } from "../support/service.ts";

const COMMITTERS = 50;
const MAX_REFUSED = 5;

describe("fifty who commit at once", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  it("all succeed, each after few refusals, and end in one epoch", async () => {
    const members = [await Member.register(service), ...(await Member.strangers(service, COMMITTERS - 1))];
    await startCommunity(service, members);
    for (const member of members.slice(1)) await member.open(service, 1);
    const refused = await Promise.all(members.map((member) => commitUntilAccepted(member)));
    console.log(`refused submits: most ${Math.max(...refused)}, together ${refused.reduce((a, b) => a + b)}`);
    expect(Math.max(...refused)).toBeLessThanOrEqual(MAX_REFUSED);
    // Whoever is in the last epoch got there through the commits of all.
    const some = [members[0]!, members[1]!, members[COMMITTERS - 1]!];
    for (const member of some) await member.catchUp(1 + COMMITTERS);
    const epochs = some.map((member) => Buffer.from(member.group.epochAuthenticator()).toString("hex"));
    expect(new Set(epochs).size).toBe(1);
    expect(Number(members[0]!.group.epoch)).toBe(1 + COMMITTERS);
  }, 120_000);
});
