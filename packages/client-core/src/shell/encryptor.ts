import {
  type AccountId,
  accountId,
  type Bytes,
  type DeviceAddress,
  equalBytes,
  formatId,
  groupId,
  InvariantError,
  type MessageId,
  submitId,
} from "@murmuration/base";
import {
  type DeviceCiphertext,
  type EncryptOutcome,
  MAX_BODY_BYTES,
  type NotReady,
  type Staged,
} from "@murmuration/pairwise";
import { type ClientBody, limits } from "@murmuration/wire";
import { emptyContent, withSeenEpochs } from "../core/content.ts";
import type { HistoryRow } from "../store/history.ts";
import type { OutboxPart, OutboxRow, PartRecipient } from "../store/outbox.ts";
import type { EpochReports } from "./communities/epoch-reports.ts";
import type { Context } from "./context.ts";
import type { Directory, Unreachable } from "./directory.ts";
import { lanes } from "./lanes.ts";

export type EncryptProgress =
  /** Every recipient has a ciphertext, or a row of its own in one of these lanes. */
  | { readonly kind: "ready"; readonly splitLanes: readonly string[] }
  /** There is nobody (left) to send to. */
  | { readonly kind: "nobody" }
  | { readonly kind: "failed"; readonly code: string }
  | { readonly kind: "later"; readonly retryAfterMs: number }
  | { readonly kind: "decision" };

type Encrypted = Extract<EncryptOutcome, { kind: "encrypted" }>;
type Mode = "sealed" | "identified";

/** How often keys are fetched for one encryption before it is tried later. */
const MAX_ROUNDS = 4;
/** Pause before an account without usable keys is looked up again. */
const LATER_MS = 1_000;
/** Time for a sealed part to reach the service, ms. */
const CERTIFICATE_MARGIN_MS = 60_000;
/** Ciphertext bytes of one submit; leaves room for ids and access keys in the frame. */
const SUBMIT_BYTES = limits.frameBytes - 256 * 1024;

/** Makes the ciphertexts of outbox rows and persists them with the sessions that made them. */
export class Encryptor {
  private readonly context: Context;
  private readonly directory: Directory;
  private readonly reports: EpochReports;
  /**
   * Accounts whose mailbox was full at the last try, by id as text. A message to a group leaves them out at once:
   * otherwise each would be refused as a whole first. Not kept: a new program asks once.
   */
  readonly full = new Set<string>();

  constructor(context: Context, directory: Directory, reports: EpochReports) {
    this.reports = reports;
    this.context = context;
    this.directory = directory;
  }

  /** Accounts a row is for, as things stand now. */
  private recipients(row: OutboxRow): readonly AccountId[] {
    const { target } = row;
    if (target.kind !== "group") return [target.account];
    const members = this.context.conversations
      .memberAccounts(target.group)
      .filter((account) => !this.context.isOwn(account));
    return without(members, row.exclude);
  }

  async encrypt(row: OutboxRow): Promise<EncryptProgress> {
    if (row.target.kind === "device") return this.encryptForDevice(row);
    const rest = without(this.recipients(row), row.accounts ?? []);
    if (rest.length === 0) return this.finish(row, []);
    const full = row.target.kind === "group" ? this.fullAmong(rest) : [];
    const failed = await this.directory.ensureAccounts(without(rest, full));
    for (const account of full) failed.set(formatId(account), { kind: "mailbox-full" });
    const split = this.splitOff(row, rest, failed);
    if (row.target.kind === "group" || failed.size === 0) {
      const batches = this.batches(row, reachable(rest, failed));
      for (const [index, { mode, accounts }] of batches.entries()) {
        const last = index === batches.length - 1 && failed.size === 0;
        const left = await this.encryptBatch(row, mode, accounts, last);
        for (const [key, why] of left) failed.set(key, why);
        split.push(...this.splitOff(row, accounts, left));
      }
    }
    if (row.target.kind === "group") return this.finish(row, split);
    const [why] = failed.values();
    return why === undefined ? this.finish(row, []) : progressOf(why);
  }

  private fullAmong(accounts: readonly AccountId[]): readonly AccountId[] {
    return this.full.size === 0 ? [] : accounts.filter((account) => this.full.has(formatId(account)));
  }

  /** Everybody who can be reached sealed goes into one batch; each of the others is a message request. */
  private batches(
    row: OutboxRow,
    accounts: readonly AccountId[],
  ): readonly { readonly mode: Mode; readonly accounts: readonly AccountId[] }[] {
    const identified =
      row.target.kind === "own"
        ? accounts
        : this.context.contacts.withoutAccessKey(accounts).map((i) => accounts[i]!);
    const sealed = without(accounts, identified);
    return [
      ...(sealed.length > 0 ? [{ mode: "sealed" as const, accounts: sealed }] : []),
      ...identified.map((account) => ({ mode: "identified" as const, accounts: [account] })),
    ];
  }

  /**
   * The group has moved to MLS while this was encrypted. What was made of it is of no use: the row was begun anew with the
   * move, and nothing of the other protocol may be put to it.
   */
  private hasMoved({ lane, target }: OutboxRow): boolean {
    if (target.kind !== "group" || lane === lanes.migration(target.group)) return false;
    return this.context.conversations.get(target.group)?.protocol === "mls";
  }

  private finish(row: OutboxRow, splitLanes: readonly string[]): EncryptProgress {
    const { outbox } = this.context;
    if (this.hasMoved(row)) return { kind: "ready", splitLanes };
    if (outbox.state(row.id) === "ready") return { kind: "ready", splitLanes };
    if (outbox.countParts(row.id) === 0) {
      if (splitLanes.length === 0) return { kind: "nobody" };
      this.context.transaction(() => outbox.handOverLine(row.id));
      return { kind: "ready", splitLanes };
    }
    this.context.transaction(() => outbox.setState(row.id, "ready", 0));
    return { kind: "ready", splitLanes };
  }

  /**
   * One member of a group that cannot be reached must not hold up the others: it gets a row of its own, in the
   * lane of its account. Returns the lanes.
   */
  private splitOff(
    row: OutboxRow,
    accounts: readonly AccountId[],
    failed: ReadonlyMap<string, Unreachable>,
  ): string[] {
    if (row.target.kind !== "group" || this.hasMoved(row)) return [];
    const { context } = this;
    const stuck = accounts.filter((account) => failed.has(formatId(account)));
    if (stuck.length === 0) return [];
    context.transaction(() => {
      // Deleted while it was encrypted: nobody is to get it any more.
      if (context.outbox.state(row.id) === undefined) return;
      for (const account of stuck) {
        if (failed.get(formatId(account))?.kind === "unknown-account") continue;
        const { content, messageId, reference, confirm, createdAtMs } = row;
        const target = { kind: "account" as const, account };
        const lane = lanes.account(account);
        const known = reference === undefined ? {} : { reference };
        context.outbox.append({ lane, target, content, messageId, confirm, createdAtMs, ...known });
      }
      this.notePlan(row.id, stuck, undefined);
      this.noteReach(row.messageId);
    });
    return stuck.map(lanes.account);
  }

  /**
   * Takes accounts out of a part that the service refused because their mailboxes are full: the rest of the part is
   * a submit of its own, and each of them gets a row in its lane, with the very ciphertexts that were made. Returns
   * the lanes; none if the part is for none of them.
   */
  leaveOut(rowId: number, part: OutboxPart, accounts: readonly AccountId[]): string[] {
    const { outbox } = this.context;
    const names = new Set(accounts.map(formatId));
    const full = part.recipients.filter(({ account }) => names.has(formatId(account)));
    if (full.length === 0) return [];
    this.context.transaction(() => {
      const row = outbox.get(rowId);
      if (row === undefined) return;
      outbox.deletePart(part.id);
      const rest = part.recipients.filter(({ account }) => !names.has(formatId(account)));
      if (rest.length > 0) outbox.addPart(rowId, { ...part, recipients: rest, submitId: this.newSubmitId() });
      for (const recipient of full) this.appendReady(row, part, recipient);
      if (outbox.countParts(rowId) === 0) outbox.handOverLine(rowId);
      this.noteReach(row.messageId);
    });
    return full.map(({ account }) => lanes.account(account));
  }

  /** Inside a transaction: one recipient's ciphertexts of a message as a row that needs no encryption any more. */
  private appendReady(row: OutboxRow, part: OutboxPart, recipient: PartRecipient): void {
    const { outbox } = this.context;
    const { content, messageId, reference, confirm, createdAtMs } = row;
    const { account } = recipient;
    const id = outbox.append({
      lane: lanes.account(account),
      target: { kind: "account", account },
      content,
      messageId,
      confirm,
      createdAtMs,
      ...(reference === undefined ? {} : { reference }),
    });
    const { mode, certificateUntilMs } = part;
    outbox.addPart(id, {
      submitId: this.newSubmitId(),
      mode,
      recipients: [recipient],
      group: undefined,
      fence: undefined,
      certificateUntilMs,
    });
    outbox.setPlan(id, [account], undefined);
    outbox.setState(id, "ready", 0);
  }

  /** Inside a transaction: whom an own message has reached changed; its line, if it has one, shows it. */
  noteReach(message: MessageId, known?: Pick<HistoryRow, "id" | "conversation">): void {
    const { context } = this;
    const line = known ?? context.history.linesOf(context.own.accountId, message)[0];
    if (line === undefined) return;
    context.events.append({
      kind: "line-changed",
      conversation: line.conversation,
      historyId: line.id,
      detail: "send-state",
      atMs: context.now(),
    });
  }

  /** Encrypts for these accounts in one write set, fetching what is missing. Returns those who were left out. */
  private async encryptBatch(
    row: OutboxRow,
    mode: Mode,
    accounts: readonly AccountId[],
    last: boolean,
  ): Promise<ReadonlyMap<string, Unreachable>> {
    const failed = new Map<string, Unreachable>();
    const body = this.withSeenEpochs(row, mode);
    for (let round = 0; round < MAX_ROUNDS; round++) {
      const open = reachable(accounts, failed);
      const devices = this.context.engine.devicesOfEach(open).flatMap((known) => known ?? []);
      if (mode === "sealed" && devices.length > 0) await this.directory.ensureCertificate();
      if (devices.length === 0) {
        this.context.transaction(() => this.notePlan(row.id, open, undefined));
        return failed;
      }
      const reference = this.context.outbox.reference(row.id);
      const outcome = await this.context.engine.encrypt(
        { recipients: devices, body, mode, ...(reference === undefined ? {} : { reference }) },
        (staged) => this.persist(row, mode, open, staged, last && failed.size === 0),
      );
      if (outcome.kind === "persisted") return failed;
      for (const [key, why] of await this.directory.repair(outcome)) failed.set(key, why);
    }
    for (const account of accounts) {
      const key = formatId(account);
      if (!failed.has(key)) failed.set(key, { kind: "later", retryAfterMs: LATER_MS });
    }
    return failed;
  }

  /**
   * What goes sealed to one account tells it beside where this device is in the communities of both: a service that shows
   * them different logs would have to stop all that they say to each other.
   */
  private withSeenEpochs({ target, content }: OutboxRow, mode: Mode): Bytes {
    if (target.kind !== "account" || mode !== "sealed") return content;
    const body = withSeenEpochs(content, this.reports.toTell(target.account));
    return body.length <= MAX_BODY_BYTES ? body : content;
  }

  /** With `last`, nobody is left to encrypt for: the row is ready in the same transaction. */
  private persist(
    row: OutboxRow,
    mode: Mode,
    accounts: readonly AccountId[],
    staged: Staged<Encrypted>,
    last: boolean,
  ): void {
    const { context } = this;
    context.transaction(() => {
      context.pairwiseRows.applyWriteSet(staged.writeSet);
      if (this.hasMoved(row)) return;
      const isFenced = row.target.kind === "group" && row.lane !== lanes.migration(row.target.group);
      const group =
        row.target.kind === "group" && isFenced && mode === "sealed" ? row.target.group : undefined;
      for (const recipients of splitBySize(groupByAccount(staged.output.ciphertexts))) {
        this.addPart(row.id, mode, recipients, group);
      }
      this.notePlan(row.id, accounts, staged.output.reference);
      if (last) context.outbox.setState(row.id, "ready", 0);
    });
  }

  private addPart(
    rowId: number,
    mode: Mode,
    recipients: readonly PartRecipient[],
    group: Bytes | undefined,
  ): void {
    const { context } = this;
    context.outbox.addPart(rowId, {
      submitId: submitId(context.environment.random(16)),
      mode,
      recipients,
      group,
      fence: group === undefined ? undefined : context.conversations.group(group)?.fence,
      certificateUntilMs: mode === "sealed" ? (context.engine.certificateExpiresAtMs() ?? 0) : 0,
    });
  }

  private notePlan(rowId: number, accounts: readonly AccountId[], reference: number | undefined): void {
    const { outbox } = this.context;
    outbox.setPlan(rowId, [...(outbox.get(rowId)?.accounts ?? []), ...accounts], reference);
  }

  /**
   * For one device: the service wants a ciphertext for each device of the account, so the others get an empty
   * content. A row that came with a ciphertext (a request to send again) keeps it, sealed or as it is without.
   */
  private async encryptForDevice(row: OutboxRow): Promise<EncryptProgress> {
    const { target } = row;
    if (target.kind !== "device") throw new InvariantError("outbox/not-for-a-device");
    const { context } = this;
    const given = context.outbox.parts(row.id)[0];
    const kept = given?.recipients[0]?.devices.find((device) => device.deviceId === target.device);
    const raw = row.reference === undefined;
    if (raw && kept === undefined) return { kind: "nobody" };
    const mode: Mode =
      given?.mode ??
      (context.contacts.get(target.account)?.profileKey === undefined ? "identified" : "sealed");
    const failed = await this.directory.ensureAccounts([target.account]);
    for (const why of failed.values()) return progressOf(why);
    const devices = context.engine.devicesOf(target.account) as readonly DeviceAddress[];
    if (!devices.some((address) => address.deviceId === target.device)) return { kind: "nobody" };
    if (!raw) {
      const own = devices.filter((address) => address.deviceId === target.device);
      const why = await this.encryptInto(row, mode, own, row.content, row.reference);
      if (why !== undefined) return progressOf(why);
    }
    const others = devices.filter((address) => address.deviceId !== target.device);
    if (others.length > 0) {
      const why = await this.encryptInto(row, mode, others, emptyContent(context.newMessageId()), undefined);
      if (why !== undefined) return progressOf(why);
    }
    return this.finish(row, []);
  }

  /** Encrypts for devices of one account and merges the ciphertexts into the row's one part. */
  private async encryptInto(
    row: OutboxRow,
    mode: Mode,
    devices: readonly DeviceAddress[],
    body: Bytes,
    reference: number | undefined,
  ): Promise<Unreachable | undefined> {
    const { context } = this;
    for (let round = 0; round < MAX_ROUNDS; round++) {
      if (mode === "sealed") await this.directory.ensureCertificate();
      const outcome: { kind: "persisted" } | NotReady = await context.engine.encrypt(
        { recipients: devices, body, mode, ...(reference === undefined ? {} : { reference }) },
        ({ writeSet, output }) =>
          context.transaction(() => {
            context.pairwiseRows.applyWriteSet(writeSet);
            const before = context.outbox.parts(row.id)[0];
            const fresh = groupByAccount(output.ciphertexts)[0]!;
            const names = new Set(fresh.devices.map((device) => device.deviceId));
            const old = (before?.recipients[0]?.devices ?? []).filter(
              (device) => !names.has(device.deviceId),
            );
            if (before !== undefined) context.outbox.deletePart(before.id);
            this.addPart(row.id, mode, [{ ...fresh, devices: [...old, ...fresh.devices] }], undefined);
          }),
      );
      if (outcome.kind === "persisted") return undefined;
      const [why] = (await this.directory.repair(outcome)).values();
      if (why !== undefined) return why;
    }
    return { kind: "later", retryAfterMs: LATER_MS };
  }

  /** The certificate of a sealed part would be refused by the recipients. */
  isSealOver({ certificateUntilMs, mode }: OutboxPart): boolean {
    return mode === "sealed" && certificateUntilMs < this.context.now() + CERTIFICATE_MARGIN_MS;
  }

  /** Recipients of a sealed part whose access key is not known any more. */
  withoutAccess({ mode, recipients }: OutboxPart): readonly AccountId[] {
    if (mode === "identified") return [];
    const accounts = recipients.map(({ account }) => account);
    const accessKeys = this.context.contacts.accessKeys(accounts);
    return accounts.filter((_, i) => accessKeys[i] === undefined);
  }

  /** The frame for a part; undefined when the access key of one of its recipients is not known any more. */
  submitBody(
    part: OutboxPart,
  ): Extract<ClientBody, { kind: "submitSealed" | "submitIdentified" }> | undefined {
    if (part.mode === "identified") {
      const [recipient] = part.recipients;
      if (recipient === undefined) throw new InvariantError("outbox/empty-part");
      const { account, devices } = recipient;
      return { kind: "submitIdentified", submitId: part.submitId, accountId: account, devices };
    }
    const recipients = [];
    const accessKeys = this.context.contacts.accessKeys(part.recipients.map(({ account }) => account));
    for (const [i, { account, devices }] of part.recipients.entries()) {
      const accessKey = accessKeys[i];
      if (accessKey === undefined) return undefined;
      recipients.push({ accountId: account, accessKey, devices });
    }
    const fence =
      part.group === undefined || part.fence === undefined
        ? {}
        : { fence: { groupId: groupId(part.group), fence: part.fence } };
    return { kind: "submitSealed", submitId: part.submitId, recipients, ephemeral: false, ...fence };
  }

  /** Inside a transaction: see OutboxWorker.takeBack. */
  takeBack(
    rowId: number,
    part: OutboxPart,
    accounts: readonly AccountId[] | undefined,
    gone: readonly AccountId[],
  ): void {
    const { outbox } = this.context;
    const row = outbox.get(rowId);
    if (row === undefined) return;
    const taken = new Set((accounts ?? part.recipients.map((recipient) => recipient.account)).map(formatId));
    const raw = row.target.kind === "device" && row.reference === undefined;
    if (raw && (this.isSealOver(part) || this.withoutAccess(part).length > 0)) {
      outbox.deletePart(part.id);
      this.addPart(rowId, "identified", unsealed(part, row), undefined);
    } else if (!raw) {
      outbox.deletePart(part.id);
      const rest = part.recipients.filter((recipient) => !taken.has(formatId(recipient.account)));
      if (rest.length > 0) outbox.addPart(rowId, { ...part, recipients: rest, submitId: this.newSubmitId() });
    }
    const left = new Set(gone.map(formatId));
    const plan = (row.accounts ?? []).filter(
      (account) => !taken.has(formatId(account)) || left.has(formatId(account)),
    );
    outbox.setPlan(rowId, plan, undefined);
    outbox.setState(rowId, "new", 0);
  }

  private newSubmitId() {
    return submitId(this.context.environment.random(16));
  }

  /** After a new generation: ciphertexts for present members stay, others go, new members are encrypted for. */
  fitToGroup(rowId: number): void {
    const { conversations, outbox } = this.context;
    this.context.transaction(() => {
      const row = outbox.get(rowId);
      if (row === undefined || row.target.kind !== "group") return;
      const { group } = row.target;
      const fence = conversations.group(group)?.fence;
      const present = new Set(this.recipients(row).map(formatId));
      for (const part of outbox.parts(rowId)) {
        if (part.fence === undefined || fence === undefined || equalBytes(part.fence, fence)) continue;
        outbox.deletePart(part.id);
        const recipients = part.recipients.filter((recipient) => present.has(formatId(recipient.account)));
        if (recipients.length > 0) {
          outbox.addPart(rowId, { ...part, recipients, fence, submitId: this.newSubmitId() });
        }
      }
      outbox.setPlan(
        rowId,
        (row.accounts ?? []).filter((account) => present.has(formatId(account))),
        undefined,
      );
      outbox.setState(rowId, "new", 0);
    });
  }
}

/** The accounts that are not among the others, in their order. */
function without(accounts: readonly AccountId[], others: readonly AccountId[]): readonly AccountId[] {
  if (others.length === 0) return accounts;
  const names = new Set(others.map(formatId));
  return accounts.filter((account) => !names.has(formatId(account)));
}

function reachable(
  accounts: readonly AccountId[],
  failed: ReadonlyMap<string, Unreachable>,
): readonly AccountId[] {
  return failed.size === 0 ? accounts : accounts.filter((account) => !failed.has(formatId(account)));
}

function progressOf(why: Unreachable): EncryptProgress {
  switch (why.kind) {
    case "unknown-account":
      return { kind: "failed", code: "accounts/unknown" };
    case "refused":
      return { kind: "failed", code: why.code };
    case "decision":
      return { kind: "decision" };
    case "later":
      return { kind: "later", retryAfterMs: why.retryAfterMs };
    case "mailbox-full":
      throw new InvariantError("outbox/full-is-for-groups");
  }
}

/** Of a request to send again: what it is without a seal, for the one device that it is about. */
function unsealed({ recipients }: OutboxPart, { content, target }: OutboxRow): PartRecipient[] {
  if (target.kind !== "device") throw new InvariantError("outbox/not-for-a-device");
  return recipients.map(({ account, devices }) => ({
    account,
    devices: devices
      .filter(({ deviceId: device }) => device === target.device)
      .map((device) => ({ ...device, ciphertext: content })),
  }));
}

function groupByAccount(ciphertexts: readonly DeviceCiphertext[]): PartRecipient[] {
  const byAccount = new Map<string, { account: AccountId; devices: PartRecipient["devices"][number][] }>();
  for (const { address, registrationId, ciphertext } of ciphertexts) {
    const account = accountId(address.accountId);
    const key = formatId(account);
    const entry = byAccount.get(key) ?? { account, devices: [] };
    entry.devices.push({ deviceId: (address as DeviceAddress).deviceId, registrationId, ciphertext });
    byAccount.set(key, entry);
  }
  return [...byAccount.values()];
}

/** Cuts a list of recipients so that each piece fits one frame. */
function splitBySize(recipients: readonly PartRecipient[]): PartRecipient[][] {
  const pieces: PartRecipient[][] = [[]];
  let used = 0;
  for (const recipient of recipients) {
    const size = recipient.devices.reduce((sum, device) => sum + device.ciphertext.length + 32, 64);
    const piece = pieces.at(-1)!;
    if (piece.length > 0 && (used + size > SUBMIT_BYTES || piece.length >= limits.recipientsPerSubmit)) {
      pieces.push([recipient]);
      used = size;
    } else {
      piece.push(recipient);
      used += size;
    }
  }
  return pieces;
}
