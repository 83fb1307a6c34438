/**
 * Adding and removing many members. What is to be done is written down first; it goes on commit by commit, after a
 * crash or a lost connection where it stopped, and nobody is left out silently.
 */
import {
  type AccountId,
  equalBytes,
  formatId,
  type GroupId,
  RejectionError,
  toBase64Url,
} from "@murmuration/base";
import {
  checkKeyPackage,
  communityContextOf,
  communityExtensions,
  decodeMemberCredential,
  decodeMlsMessage,
  type Group,
  type Proposal,
} from "@murmuration/mls-groups";
import { type ClaimedAccount, limits, type WelcomeRecipient } from "@murmuration/wire";
import type { ClaimedRow, JobAction, JobRow } from "../../store/mls.ts";
import type { Context } from "../context.ts";
import type { CommitPlan, Committer } from "./committer.ts";
import { communityCrypto } from "./identity.ts";

/** An account that could not be added or removed, and why. */
export interface LeftOut {
  readonly account: AccountId;
  readonly code: string;
}

export class MemberJobs {
  private readonly context: Context;
  private readonly committer: Committer;
  private readonly refreshDeviceList: (account: AccountId) => Promise<void>;

  constructor(
    context: Context,
    committer: Committer,
    refreshDeviceList: (account: AccountId) => Promise<void>,
  ) {
    this.context = context;
    this.committer = committer;
    this.refreshDeviceList = refreshDeviceList;
  }

  /** PERSIST what is to be done. Whoever is a member already (or is none) needs nothing. */
  plan(id: GroupId, accounts: readonly AccountId[], action: JobAction): void {
    const { mls } = this.context;
    // By leaves: a group that is being prepared has fewer than its conversation has members. Who has none may be expected.
    const open = accounts.filter((account) => action === "remove" || mls.leavesOf(id, account).length === 0);
    this.context.transaction(() => mls.addJob(id, open, action));
  }

  /**
   * Does everything that is written down for a group. Who is left out stays written down until somebody {@link take}s it.
   * UnavailableError where the service cannot be reached: the rest is done with the next connection.
   */
  run(id: GroupId, action: JobAction): Promise<void> {
    return this.context.queue.run(`mls-jobs:${toBase64Url(id)}`, async () => {
      const total = this.context.mls.jobs(id, action).length;
      for (let most: number = limits.addsPerCommit; ; ) {
        const next = this.context.mls.jobs(id, action, most);
        if (next.length === 0) break;
        if (action === "add") {
          await this.claim(id, next);
          await this.dropUnlisted(id, next);
        }
        most = await this.commit(id, action, most);
        this.tell(id, action, total);
      }
    });
  }

  /** Those of these accounts who were left out, and why; they are forgotten then. */
  take(id: GroupId, accounts: readonly AccountId[], action: JobAction): readonly LeftOut[] {
    const asked = new Set(accounts.map(formatId));
    const left = this.leftOut(id, action).filter(({ account }) => asked.has(formatId(account)));
    this.context.transaction(() => {
      for (const { account } of left) this.context.mls.deleteJob(id, account, action);
    });
    return left;
  }

  leftOut(id: GroupId, action: JobAction): readonly LeftOut[] {
    return this.context.mls
      .failedJobs(id, action)
      .map(({ account, failure }) => ({ account, code: failure ?? "group/not-done" }));
  }

  private tell(id: GroupId, action: JobAction, total: number): void {
    const done = total - this.context.mls.jobs(id, action).length;
    this.context.notifier.tell({ kind: "progress", conversation: id, action, done, total });
  }

  /**
   * One commit. A batch that is refused as a whole is halved until the one who is the cause stands alone. Returns how
   * many the next one may hold.
   */
  private async commit(id: GroupId, action: JobAction, most: number): Promise<number> {
    const decide = (group: Group) =>
      action === "add" ? this.planAdds(id, group, most) : this.planRemoves(id, group, most);
    try {
      await this.committer.commit(id, decide);
      this.settle(id, action, most);
      return limits.addsPerCommit;
    } catch (error) {
      if (!(error instanceof RejectionError)) throw error;
      // The service or the log says so: this device can do nothing more here.
      if (error.code === "group/not-a-member") throw error;
      const tried = this.context.mls.jobs(id, action, most);
      if (tried.length > 1) return Math.ceil(tried.length / 2);
      const [job] = tried;
      if (job !== undefined) this.fail(id, job.account, action, error.code);
      return limits.addsPerCommit;
    }
  }

  /**
   * What is left of a batch whose commit is through. Whoever has come or gone otherwise is done; for anybody else the
   * commit did nothing, and would do nothing again.
   */
  private settle(id: GroupId, action: JobAction, most: number): void {
    const { mls } = this.context;
    this.context.transaction(() => {
      for (const { account, state } of mls.jobs(id, action, most)) {
        const present = mls.leavesOf(id, account);
        if (action === "remove") {
          if (present.length === 0) mls.deleteJob(id, account, action);
          continue;
        }
        if (state !== "claimed") continue;
        const devices = new Set(present.map(({ device }) => device));
        const open = mls.claimed(id, account).filter(({ device }) => !devices.has(device));
        if (open.length === 0) mls.deleteJob(id, account, action);
      }
    });
  }

  private fail(id: GroupId, account: AccountId, action: JobAction, code: string): void {
    this.context.transaction(() => this.context.mls.setJob(id, account, action, "failed", code));
  }

  // ------------------------------------------------------------------------------------------------- adds

  /** Takes KeyPackages of those who have none here yet, and checks whose they are. */
  private async claim(id: GroupId, jobs: readonly JobRow[]): Promise<void> {
    const waiting = jobs.filter((job) => job.state === "waiting").map((job) => job.account);
    if (waiting.length === 0) return;
    const { api, deviceAuthorisation, mls } = this.context;
    for (let at = 0; at < waiting.length; at += limits.accountsPerClaim) {
      const accountIds = waiting.slice(at, at + limits.accountsPerClaim);
      const reply = await api.call("claimKeyPackages", deviceAuthorisation, { accountIds });
      this.context.transaction(() => {
        for (const claimed of reply.accounts) {
          const { rows, failure } = this.check(claimed);
          for (const row of rows) mls.putClaimed(id, row);
          if (failure === undefined) mls.setJob(id, claimed.accountId, "add", "claimed");
          else mls.setJob(id, claimed.accountId, "add", "failed", failure);
        }
      });
    }
  }

  /**
   * A service could hand out a KeyPackage of a device that its account has removed, because it was stolen. What an
   * account's list does not name is not added; it may have been linked since that list was fetched, so the newest one is
   * asked for first. What was claimed is written down already: a service that does not answer costs nothing. UnavailableError.
   */
  private async dropUnlisted(id: GroupId, jobs: readonly JobRow[]): Promise<void> {
    const { mls } = this.context;
    const claimed = () => jobs.flatMap(({ account }) => mls.claimed(id, account));
    const unknown = new Set(
      claimed()
        .filter((row) => this.isUnlisted(row))
        .map(({ account }) => formatId(account)),
    );
    if (unknown.size === 0) return;
    const accounts = jobs.map(({ account }) => account).filter((account) => unknown.has(formatId(account)));
    await Promise.all(accounts.map((account) => this.refreshDeviceList(account)));
    this.context.transaction(() => {
      for (const row of claimed()) {
        if (!this.isUnlisted(row)) continue;
        mls.deleteClaimed(id, row.account, row.device);
        if (mls.claimed(id, row.account).length === 0)
          mls.setJob(id, row.account, "add", "failed", "key-packages/unlisted-device");
      }
    });
  }

  /** Of an account whose list is known here: of others the service could show an old one as well. */
  private isUnlisted({ account, device, keyPackage }: ClaimedRow): boolean {
    const list = this.context.engine.deviceListOf(account);
    if (list === undefined) return false;
    const listed = list.devices.find(({ deviceId }) => deviceId === device);
    if (listed === undefined) return true;
    const message = decodeMlsMessage(keyPackage);
    if (message.wireFormat !== "mls_key_package") return true;
    const { credential } = message.keyPackage.leafNode;
    return !equalBytes(listed.identityKey, decodeMemberCredential(credential).deviceIdentityKey);
  }

  /** Good KeyPackages of an account, or why there is none. */
  private check(claimed: ClaimedAccount): {
    readonly rows: readonly ClaimedRow[];
    readonly failure: string | undefined;
  } {
    if (claimed.unknownAccount) return { rows: [], failure: "accounts/unknown" };
    let failure = "key-packages/none";
    const rows: ClaimedRow[] = [];
    for (const { deviceId: device, keyPackage } of claimed.keyPackages) {
      try {
        this.requireOf(claimed.accountId, device, keyPackage);
        rows.push({ account: claimed.accountId, device, keyPackage });
      } catch (error) {
        if (!(error instanceof RejectionError)) throw error;
        failure = error.code;
      }
    }
    return { rows, failure: rows.length > 0 ? undefined : failure };
  }

  /** A KeyPackage of this device of this account, under the identity that we know. RejectionError. */
  private requireOf(account: AccountId, device: number, keyPackage: Uint8Array): void {
    const nowSeconds = BigInt(Math.floor(this.context.now() / 1000));
    const { credential } = checkKeyPackage(communityCrypto, keyPackage, nowSeconds);
    const member = decodeMemberCredential(credential);
    if (!equalBytes(member.accountId, account) || member.deviceId !== device)
      throw new RejectionError("key-packages/bad-key-package");
    if (this.context.identities.compare(account, member.accountIdentityKey) === "other")
      throw new RejectionError("pairwise/identity-changed");
  }

  private planAdds(id: GroupId, group: Group, most: number): CommitPlan | undefined {
    const { mls } = this.context;
    const proposals: Proposal[] = [];
    const recipients: WelcomeRecipient[] = [];
    for (const { account, state } of mls.jobs(id, "add", most)) {
      if (state !== "claimed") continue;
      const claimed = mls.claimed(id, account);
      if (proposals.length + claimed.length > limits.addsPerCommit) break;
      const present = new Set(mls.leavesOf(id, account).map((leaf) => leaf.device));
      for (const { device, keyPackage } of claimed) {
        // The account may have removed it while this waited for its turn.
        if (present.has(device) || this.isUnlisted({ account, device, keyPackage })) continue;
        const checked = checkKeyPackage(
          communityCrypto,
          keyPackage,
          BigInt(Math.floor(this.context.now() / 1000)),
        );
        proposals.push({ kind: "add", keyPackage: checked.keyPackage });
        recipients.push({ accountId: account, deviceId: device });
      }
    }
    if (proposals.length === 0) return undefined;
    // Adds alone may go without a path (RFC 9420 12.4): the newcomers bring fresh keys with their own first commits.
    const path = group.cachedProposals.length > 0 ? "always" : "required";
    return { options: { proposals, path }, recipients };
  }

  // ---------------------------------------------------------------------------------------------- removes

  private planRemoves(id: GroupId, group: Group, most: number): CommitPlan | undefined {
    const { mls } = this.context;
    const jobs = mls.jobs(id, "remove", most);
    const removes = jobs
      .flatMap(({ account }) => mls.leavesOf(id, account))
      .map(({ leaf }): Proposal => ({ kind: "remove", removed: leaf }));
    const proposals = [...removes, ...dropExpected(group, jobs)];
    return proposals.length === 0 ? undefined : { options: { proposals } };
  }
}

/** What a commit that removes these accounts needs besides: nobody of them is expected any more. Nothing where nobody is. */
export function dropExpected(group: Group, removed: readonly { readonly account: AccountId }[]): Proposal[] {
  const community = communityContextOf(group.context.extensions);
  const expected = community.expected.filter(
    ({ accountId }) => !removed.some(({ account }) => equalBytes(account, accountId)),
  );
  if (expected.length === community.expected.length) return [];
  return [{ kind: "group_context_extensions", extensions: communityExtensions({ ...community, expected }) }];
}

export const describeLeftOut = (left: readonly LeftOut[]) =>
  left.map(({ account, code }) => ({ accountId: formatId(account), code }));
