import { readFileSync } from "node:fs";
import { type Bytes, formatId, type GroupId, groupId, utf8 } from "@murmuration/base";
import type { GroupMigrationStep } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { sha256 } from "../../src/core/submit.ts";
import {
  type Generation,
  generateGeneration,
  readGroup,
  renewLease,
  writeGroup,
} from "../support/group-access.ts";
import { scan } from "../support/leak-scan.ts";
import { random } from "../support/random.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";
import { sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("a group moves to MLS, and not back", () => {
  let service: TestService;
  let id: GroupId;
  let key: Generation;
  let revision: number;
  const clock = movableClock(Date.now());
  beforeEach(async () => {
    service = await startTestService({ clock });
    [id, key, revision] = [groupId(random(16)), generateGeneration(), 0];
    expect(await write(undefined, key)).toEqual({ revision: 1 });
  });
  afterEach(() => service.stop());

  /** Writes on the present revision: what was answered, or the code of the refusal. */
  async function write(migration?: GroupMigrationStep, next?: Generation): Promise<unknown> {
    const answer = await writeGroup(service.base, id, key, revision, random(40), next, migration);
    if (answer.rejection !== undefined) return answer.rejection.code;
    revision++;
    return answer.body;
  }
  const renew = async (generation: number, leaseToken: Bytes) => {
    const answer = await renewLease(service.base, id, key, { generation, leaseToken });
    return answer.rejection?.code ?? answer.body;
  };
  const migration = async () => (await readGroup(service.base, id, key)).body["migration"];
  const another = (): Generation => ({ ...key, fence: random(16) });
  const submit = async (fence: Bytes) => {
    const bob = await TestDevice.register(service.base);
    const sender = await TestSocket.anonymous(service.port);
    const answer = await sender.request({
      kind: "submitSealed",
      ...sealedTo([bob]),
      fence: { groupId: id, fence },
    });
    await sender.close();
    return answer.kind === "rejection" ? answer.code : answer.kind;
  };

  it("from the first step to the last, with a lease that is renewed, and then takes no pairwise submit", async () => {
    expect(await migration()).toBeUndefined();
    const token = random(16);
    const prepared = await write({ state: "preparing", generation: 1, newLeaseToken: token });
    expect(prepared).toEqual({ revision: 2, leaseLeftMs: 60_000 });
    clock.advance(45_000);
    expect(await migration()).toEqual({ state: "preparing", generation: 1, leaseLeftMs: 15_000 });
    expect(await renew(1, token)).toEqual({ leaseLeftMs: 60_000 });
    // A member is added meanwhile.
    expect(await write()).toEqual({ revision: 3 });
    expect(await migration()).toEqual({ state: "preparing", generation: 1, leaseLeftMs: 60_000 });
    expect(await write({ state: "ready", generation: 1, leaseToken: token })).toMatchObject({ revision: 4 });
    expect(await submit(key.fence)).toBe("submitAccepted");

    const step = { state: "switching", generation: 1, leaseToken: token } as const;
    expect(await write(step)).toBe("migration/fence-missing");
    const switched = another();
    expect(await write(step, switched)).toEqual({ revision: 5 });
    expect(await migration()).toEqual({ state: "switching", generation: 1, leaseLeftMs: 0 });
    expect(await submit(key.fence)).toBe("submit/fence-outdated");
    expect(await submit(switched.fence)).toBe("submit/fence-outdated");
    expect(await renew(1, token)).toBe("migration/not-possible");
    expect(await write()).toBe("migration/not-possible");
    expect(await write({ state: "pairwise", generation: 1 })).toBe("migration/not-possible");
    expect(await write({ state: "mls", generation: 1 })).toEqual({ revision: 6 });
    expect(await migration()).toEqual({ state: "mls", generation: 1, leaseLeftMs: 0 });

    const second = random(16);
    const recovery = { state: "recovering", generation: 2, newLeaseToken: second } as const;
    expect(await write(recovery)).toMatchObject({ revision: 7 });
    expect(await submit(switched.fence)).toBe("submit/fence-outdated");
    expect(await write({ ...step, generation: 2 })).toBe("migration/lease-held");
    expect(await write({ ...step, generation: 2, leaseToken: second })).toEqual({ revision: 8 });
  });

  it("of two who would create the group one does, and who vanishes is followed by another", async () => {
    const [first, second] = [random(16), random(16)];
    const prepare = (newLeaseToken: Bytes, generation: number) =>
      writeGroup(service.base, id, key, revision, random(40), undefined, {
        state: "preparing",
        generation,
        newLeaseToken,
      });
    const answers = await Promise.all([prepare(first, 1), prepare(second, 1)]);
    const codes = answers.map((answer) => answer.rejection?.code ?? "stored");
    expect(codes.toSorted()).toEqual(["group/revision-conflict", "stored"]);
    revision++;
    const [winner, loser] = codes[0] === "stored" ? [first, second] : [second, first];

    clock.advance(20_000);
    const early = await prepare(loser, 2);
    expect(early.rejection).toEqual({
      code: "migration/lease-held",
      action: "retry-later",
      retryAfterMs: 40_000,
    });
    clock.advance(40_000);
    expect((await prepare(loser, 2)).status).toBe(200);
    revision++;
    expect(await renew(1, winner)).toBe("migration/wrong-generation");
    expect(await renew(2, winner)).toBe("migration/lease-lost");
    expect(await write({ state: "ready", generation: 2, leaseToken: winner })).toBe("migration/lease-held");

    // Late, but nobody came in its place.
    clock.advance(600_000);
    expect(await migration()).toEqual({ state: "preparing", generation: 2, leaseLeftMs: 0 });
    expect(await renew(2, loser)).toEqual({ leaseLeftMs: 60_000 });
    expect(await write({ state: "pairwise", generation: 2 })).toMatchObject({ revision: 4 });
    expect(await write({ state: "preparing", generation: 2, newLeaseToken: first })).toBe(
      "migration/wrong-generation",
    );
  });

  it("nobody without the group's key renews a lease", async () => {
    const token = random(16);
    await write({ state: "preparing", generation: 1, newLeaseToken: token });
    const renewal = { generation: 1, leaseToken: token };
    const stranger = await renewLease(service.base, id, generateGeneration(), renewal);
    expect(stranger.rejection?.code).toBe("group/access-denied");
    const unknown = await renewLease(service.base, groupId(random(16)), key, renewal);
    expect(unknown.rejection?.code).toBe("group/unknown");
  });

  it("operators see states, steps, take-overs and stragglers, and nothing of which group it was", async () => {
    const metrics = async () => (await fetch(`${service.base}/metrics`)).text();
    expect(await metrics()).toContain('murmuration_migrations{label="preparing"} 0\n');
    const [first, second] = [random(16), random(16)];
    await write({ state: "preparing", generation: 1, newLeaseToken: first });
    clock.advance(61_000);
    await write({ state: "preparing", generation: 2, newLeaseToken: second });
    expect(await metrics()).toContain('murmuration_migrations{label="preparing"} 1\n');
    clock.advance(9_000);
    await write({ state: "ready", generation: 2, leaseToken: second });
    const switched = another();
    await write({ state: "switching", generation: 2, leaseToken: second }, switched);
    await submit(key.fence);
    await submit(key.fence);
    await write({ state: "mls", generation: 2 });

    const text = await metrics();
    for (const line of [
      'murmuration_migrations{label="preparing"} 0',
      'murmuration_migrations{label="mls"} 1',
      'murmuration_migration_steps_total{label="prepare"} 2',
      'murmuration_migration_steps_total{label="ready"} 1',
      'murmuration_migration_steps_total{label="switch"} 1',
      'murmuration_migration_steps_total{label="done"} 1',
      'murmuration_migration_take_overs_total{label=""} 1',
      'murmuration_migration_stragglers_total{label=""} 2',
      'murmuration_migration_ms_bucket{le="60000"} 0',
      'murmuration_migration_ms_bucket{le="120000"} 1',
      "murmuration_migration_ms_sum 70000",
    ]) {
      expect(text).toContain(`${line}\n`);
    }
    const steps = service.logged.map((line) => JSON.parse(line)).filter((l) => l.event === "migration-step");
    const shared = { event: "migration-step", takenOver: false };
    expect(steps).toEqual([
      { ...shared, change: "prepare", from: "pairwise", to: "preparing", generation: 1 },
      {
        ...shared,
        change: "prepare",
        from: "preparing",
        to: "preparing",
        generation: 2,
        takenOver: true,
        sincePreviousMs: 61_000,
      },
      {
        ...shared,
        change: "ready",
        from: "preparing",
        to: "ready",
        generation: 2,
        sincePreviousMs: 9_000,
      },
      { ...shared, change: "switch", from: "ready", to: "switching", generation: 2, sincePreviousMs: 0 },
      { ...shared, change: "done", from: "switching", to: "mls", generation: 2, sincePreviousMs: 0 },
    ]);

    const spoken = [
      { name: "log", bytes: utf8(service.logged.join("\n")) },
      { name: "metrics", bytes: utf8(text) },
    ];
    const needles = [
      { name: "group", bytes: id },
      { name: "access key", bytes: key.accessPublicKey },
      { name: "fence", bytes: key.fence },
      { name: "new fence", bytes: switched.fence },
      ...[first, second].flatMap((token) => [
        { name: "token", bytes: token },
        { name: "hash of a token", bytes: sha256(token) },
      ]),
    ];
    expect(scan(spoken, needles)).toEqual([]);
    const planted = { name: "log", bytes: utf8(JSON.stringify({ group: formatId(id) })) };
    expect(scan([planted], needles)).toEqual([{ needle: "group", haystack: "log" }]);
    // The token itself is nowhere in the file either.
    const files = [service.databasePath, `${service.databasePath}-wal`].map((path) => ({
      name: "database",
      bytes: readFileSync(path),
    }));
    expect(scan(files, [{ name: "token", bytes: first }])).toEqual([]);
    expect(scan(files, [{ name: "token", bytes: second }])).toEqual([]);
  });
});
