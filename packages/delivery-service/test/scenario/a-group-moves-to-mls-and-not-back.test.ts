import { type Bytes, type GroupId, groupId } from "@murmuration/base";
import type { GroupMigrationStep } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  type Generation,
  generateGeneration,
  readGroup,
  renewLease,
  writeGroup,
} from "../support/group-access.ts";
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
    expect(await write({ ...step, generation: 2 })).toBe("migration/lease-lost");
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
    expect(await write({ state: "ready", generation: 2, leaseToken: winner })).toBe("migration/lease-lost");

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
});
