import { type GroupId, parseGroupId, RejectionError } from "@murmuration/base";
import {
  type ChallengeReply,
  type GroupLeaseRenewal,
  type GroupLeaseReply,
  type GroupRecord,
  type GroupWriteReply,
  type GroupWriteRequest,
  unmigrated,
} from "@murmuration/wire";
import { challengeName, createChallenge, openChallenge } from "../core/challenge.ts";
import { dayOf } from "../core/days.ts";
import { DelayedRejection } from "../core/delayed-rejection.ts";
import { decideGroupWrite, type GroupRequest, verifyGroupAccess } from "../core/group-records.ts";
import { decideRenewal, type LeaseTime, viewMigration } from "../core/migration.ts";
import { addressKey } from "../core/token-bucket.ts";
import type { ServiceContext } from "./context.ts";
import type { Call } from "./http.ts";
import { reportStep } from "./migration-reports.ts";
import { charge, chargeFor } from "./refusals.ts";

/** Bytes by which the records that one address writes may grow: nobody is asked who stores them for 400 days. */
const GROWTH_PER_ADDRESS = { burst: 32 * 1024 * 1024, perMinute: 2 * 1024 * 1024 };

/** Hands out single-use challenges and reads and writes the records of pairwise groups. All of it anonymous. */
export class GroupRoutes {
  readonly challenge = async (context: ServiceContext, call: Call): Promise<ChallengeReply> => {
    await this.charge(context, call);
    const { challengeKey, clock, limits, random } = context;
    const expiresAtMs = clock.now() + limits.challengeLifetimeMs;
    return {
      challenge: createChallenge(challengeKey, random.bytes(8), expiresAtMs),
      validForMs: limits.challengeLifetimeMs,
    };
  };

  readonly read = async (context: ServiceContext, call: Call): Promise<GroupRecord> => {
    await this.charge(context, call);
    const request = await this.spend(context, call, "read");
    const record = await context.stores.groupRecords.load(request.groupId);
    if (record === undefined) throw new RejectionError("group/unknown");
    verifyGroupAccess(record.accessPublicKey, request);
    const today = dayOf(context.clock.now());
    if (record.lastUsedDay < today) await context.stores.groupRecords.touch(request.groupId, today);
    const migration = viewMigration(record.migration, leaseTime(context));
    return { revision: record.revision, blob: record.blob, ...(migration && { migration }) };
  };

  readonly write = async (context: ServiceContext, call: Call): Promise<GroupWriteReply> => {
    await this.charge(context, call);
    const request = await this.spend(context, call, "write");
    const { groupRecords } = context.stores;
    const before = await groupRecords.load(request.groupId);
    const time = leaseTime(context);
    const { kind, record, step } = decideGroupWrite(before, request, call.body as GroupWriteRequest, time);
    const growth = record.blob.length - (before?.blob.length ?? 0);
    if (growth > 0) {
      const from = addressKey(call.request.remoteAddress);
      await charge(context.rateLimits, [chargeFor("group-growth", from, GROWTH_PER_ADDRESS, growth)]);
    }
    const outcome =
      kind === "create"
        ? await groupRecords.create(record)
        : await groupRecords.compareAndSet(
            record,
            step === undefined
              ? { kind: "keep" }
              : { kind: "replace", ifLeaseUntilMs: step.overLeaseUntilMs },
          );
    if (outcome === "unknown") throw new RejectionError("group/unknown");
    if (outcome === "exists" || outcome === "conflict") throw new RejectionError("group/revision-conflict");
    // Its holder came back late, and yet before whoever would have gone on in its place.
    if (outcome === "renewed") throw new DelayedRejection("migration/lease-held", time.leaseMs);
    if (step !== undefined) reportStep(context, (before?.migration ?? unmigrated).state, step);
    const leaseLeftMs = step?.next.lease && viewMigration(step.next, time)?.leaseLeftMs;
    return { revision: record.revision, ...(leaseLeftMs !== undefined && { leaseLeftMs }) };
  };

  readonly renewLease = async (context: ServiceContext, call: Call): Promise<GroupLeaseReply> => {
    await this.charge(context, call);
    const request = await this.spend(context, call, "renew-lease");
    const { groupRecords } = context.stores;
    const record = await groupRecords.load(request.groupId);
    if (record === undefined) throw new RejectionError("group/unknown");
    verifyGroupAccess(record.accessPublicKey, request);
    const time = leaseTime(context);
    const lease = decideRenewal(record, call.body as GroupLeaseRenewal, time);
    if ((await groupRecords.renewLease(request.groupId, lease)) === "lost") {
      throw new RejectionError("migration/lease-lost");
    }
    const today = dayOf(time.nowMs);
    if (record.lastUsedDay < today) await groupRecords.touch(request.groupId, today);
    return { leaseLeftMs: time.leaseMs };
  };

  private charge(context: ServiceContext, call: Call): Promise<void> {
    const rate = context.limits.rates.groupRequestsPerAddress;
    return charge(context.rateLimits, [chargeFor("groups", addressKey(call.request.remoteAddress), rate)]);
  }

  /** A challenge is spent by its first use, whatever becomes of the request. */
  private async spend(
    context: ServiceContext,
    call: Call,
    operation: GroupRequest["operation"],
  ): Promise<GroupRequest> {
    const groupId: GroupId = parseGroupId(call.parameters.groupId ?? "");
    const access = call.groupAccess!;
    const { challengeKey, clock, spentChallenges } = context;
    const expiresAtMs = openChallenge(challengeKey, access.challenge, clock.now());
    if (!(await spentChallenges.spend(challengeName(access.challenge), expiresAtMs)))
      throw new RejectionError("group/challenge-used");
    return { groupId, operation, access, body: call.raw };
  }
}

function leaseTime({ clock, limits }: ServiceContext): LeaseTime {
  return { nowMs: clock.now(), leaseMs: limits.migrationLeaseMs };
}
