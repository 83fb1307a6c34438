import { afterEach, describe, expect, it } from "vitest";
import { labelled, openHealth } from "../../src/admin.ts";
import { dayOf } from "../../src/core/days.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";

describe("operators see how groups are doing, beside the running service and without names", () => {
  let service: TestService;
  afterEach(() => service.stop());

  it("a commit that came too late counts, and who has read how far", async () => {
    service = await startTestService({ limits: { cursorDelayMs: 20 } });
    const [alice, bob, carol] = [await Member.register(service), ...(await Member.strangers(service, 2))] as [
      Member,
      Member,
      Member,
    ];
    await startCommunity(service, [alice, bob, carol]);
    await bob.open(service, 1);
    await carol.open(service, 1);
    const late = bob.makeCommit();
    expectKind(await carol.commit(carol.makeCommit()), "groupCommitAccepted");
    expectKind(await bob.socket.request(late.frame), "groupCommitLost");
    expectKind(await bob.socket.request(late.frame), "groupCommitLost");

    const health = await openHealth({ engines: { kind: "embedded" }, dataDirectory: service.directory });
    const query = { sinceDay: dayOf(Date.now()), stragglerEntries: 1, order: "stale", limit: 10 } as const;
    await expect.poll(async () => (await health.groups(query))[0]?.lostCommits).toBe(2);
    const groups = await health.groups(query);
    expect(groups).toMatchObject([{ epoch: 2, entries: 2, commits: 2, lostCommits: 2, leftBehind: 0 }]);
    expect(groups[0]!.epochSinceMs).toBeGreaterThan(Date.now() - 60_000);
    const { groupId } = groups[0]!;
    const shown = JSON.stringify(labelled(groups, random(32)));
    for (const encoding of ["hex", "base64", "base64url"] as const) {
      expect(shown).not.toContain(Buffer.from(groupId).toString(encoding).slice(0, 8));
    }
    await health.close();
  });
});
