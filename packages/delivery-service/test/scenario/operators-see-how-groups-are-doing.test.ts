import { afterEach, describe, expect, it } from "vitest";
import { labelled, openHealth } from "../../src/admin.ts";
import { dayOf } from "../../src/core/days.ts";
import type { HealthQuery } from "../../src/ports/group-health.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { call } from "../support/test-device.ts";

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
    const query = lookingFor();
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

  it("how many leaves of a group are of devices that run out of KeyPackages, also after commits", async () => {
    service = await startTestService();
    const members: Member[] = [];
    for (const stock of [1, 6, 2]) {
      const member = await Member.register(service);
      const upload = {
        uploadId: random(16),
        keyPackages: Array.from({ length: stock }, () => member.keyPackageMessage()),
        replace: false,
      };
      await call(service.base, "uploadKeyPackages", { headers: member.device.headers(), body: upload });
      members.push(member);
    }
    const [alice, bob, carol] = members as [Member, Member, Member];
    await startCommunity(service, [alice, bob, carol]);
    const health = await openHealth({ engines: { kind: "embedded" }, dataDirectory: service.directory });
    const lowStock = async (keyPackagesBelow: number, nowMs = Date.now()) =>
      (await health.groups({ ...lookingFor(), keyPackagesBelow, nowMs }))[0]!.lowStock;
    expect([await lowStock(1), await lowStock(2), await lowStock(6), await lowStock(7)]).toEqual([
      0, 1, 2, 3,
    ]);
    // None of them is good in a year.
    expect(await lowStock(1, Date.now() + 365 * 86_400_000)).toBe(3);
    // Deltas behind the snapshot are read as well.
    expectKind(
      await alice.commit(alice.makeCommit({ proposals: [{ kind: "remove", removed: carol.leafIndex }] })),
      "groupCommitAccepted",
    );
    expect([await lowStock(2), await lowStock(6), await lowStock(7)]).toEqual([1, 1, 2]);
    await health.close();
  });
});

const lookingFor = (): HealthQuery => ({
  sinceDay: dayOf(Date.now()),
  stragglerEntries: 1,
  keyPackagesBelow: 10,
  nowMs: Date.now(),
  order: "stale",
  limit: 10,
});
