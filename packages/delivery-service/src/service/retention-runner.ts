import type { DeviceAddress } from "@murmuration/base";
import { planRetention, type RetentionJob, retention } from "../core/retention.ts";
import { type EndDevice, forget } from "./account-routes.ts";
import type { ServiceContext } from "./context.ts";
import { toRefusal } from "./refusals.ts";

/** Runs the retention schedule: at start, then every hour. Batches are small, so that delivery goes on. */
export class RetentionRunner {
  private readonly context: ServiceContext;
  private readonly endDevice: EndDevice;
  private cancel: () => void = () => {};
  private stopped = false;

  constructor(context: ServiceContext, endDevice: EndDevice) {
    this.context = context;
    this.endDevice = endDevice;
  }

  /** Schedules the next run `delayMs` from now. */
  start(delayMs: number = retention.intervalMs): void {
    if (this.stopped) return;
    this.cancel = this.context.clock.after(delayMs, () => {
      this.runOnce()
        .catch((error: unknown) => {
          // The stores were closed under it: the next start goes on with what is left.
          if (this.stopped) return;
          const { code } = toRefusal(error, this.context.log);
          this.context.log.error("retention-failed", { code });
        })
        .finally(() => this.start());
    });
  }

  stop(): void {
    this.stopped = true;
    this.cancel();
  }

  /** One run of every job; the retention log says afterwards what it removed. */
  async runOnce(): Promise<void> {
    const { clock, log, metrics, stores } = this.context;
    for (const job of planRetention(clock.now())) {
      const removed = await this.runJob(job);
      metrics.count("retention_removed", job.name, removed);
      await stores.retentionLog.record({ job: job.name, ranAtMs: clock.now(), removed });
      if (removed > 0) log.info("retention", { job: job.name, removed });
    }
    await stores.compact();
  }

  private async runJob(job: RetentionJob): Promise<number> {
    const { stores } = this.context;
    switch (job.name) {
      case "envelopes":
        return repeat((limit) => stores.mailboxes.expireEnvelopes(job.beforeMs, limit));
      case "submits":
        return repeat((limit) => stores.mailboxes.expireSubmits(job.beforeMs, limit));
      case "blobs":
        return repeat((limit) => stores.blobs.expire(job.beforeMs, limit));
      case "unfinished-uploads":
        return repeat((limit) => stores.blobs.expireUploads(job.beforeMs, limit));
      case "key-packages":
        return repeat((limit) => stores.keyPackages.expire(job.beforeMs, limit));
      case "group-entries":
        return repeat((limit) => stores.mlsGroups.expire(job.beforeMs, limit));
      case "push-handles":
        return repeat((limit) => stores.pushHandles.expire(job.beforeDay, limit));
      case "idle-groups":
        return repeat((limit) => stores.groupRecords.expire(job.beforeDay, limit));
      case "idle-mls-groups":
        return repeat(
          (limit) => stores.mlsGroups.expireGroups(job.beforeDay, limit),
          retention.mlsGroupBatch,
        );
      case "lost-commits":
        return repeat((limit) => stores.lostCommits.expire(job.beforeDay, limit));
      case "idle-devices":
        return this.removeIdleDevices(job.beforeDay);
      case "orphaned-mailboxes":
        return this.removeOrphans(job.beforeMs);
    }
  }

  /**
   * An idle device loses its mailbox and keys; the account goes when none of its devices came for so long.
   */
  private async removeIdleDevices(beforeDay: number): Promise<number> {
    const { accounts } = this.context.stores;
    let removed = 0;
    for (;;) {
      const idle = await accounts.idleDevices(beforeDay, retention.batch);
      if (idle.length === 0) return removed;
      const gone: DeviceAddress[] = [];
      for (const address of idle) {
        // A device that came back since it was listed keeps its mailbox.
        if ((await accounts.removeIdleDevice(address, beforeDay)) === "removed") gone.push(address);
      }
      await forget(this.context, gone, this.endDevice);
      removed += gone.length;
    }
  }

  private async removeOrphans(beforeMs: number): Promise<number> {
    const { accounts, mailboxes } = this.context.stores;
    let removed = 0;
    let after: DeviceAddress | undefined;
    for (;;) {
      const owners = await mailboxes.owners(after, retention.batch, beforeMs);
      if (owners.length === 0) return removed;
      const records = await accounts.loadMany(owners.map((owner) => owner.accountId));
      const orphans = owners.filter(
        (owner, index) => !records[index]?.devices.some((device) => device.deviceId === owner.deviceId),
      );
      await forget(this.context, orphans, this.endDevice);
      removed += orphans.length;
      after = owners.at(-1);
    }
  }
}

async function repeat(
  removeSome: (limit: number) => Promise<number>,
  batch: number = retention.batch,
): Promise<number> {
  let total = 0;
  for (;;) {
    const removed = await removeSome(batch);
    total += removed;
    if (removed < batch) return total;
  }
}
