import { type Bytes, RejectionError, toHex, UnavailableError } from "@murmuration/base";
import type { ServiceBody } from "@murmuration/wire";
import type { FollowedLeaf } from "../ports/commit-validator.ts";
import type { ServiceContext } from "./context.ts";
import type { LiveGroup } from "./live-group.ts";
import { OVERLOADED_RETRY_MS } from "./refusals.ts";
import type { Payer } from "./tree-charges.ts";

/** The connection as a group's delivery sees it. */
export interface GroupOutlet extends Payer {
  /** False while the peer reads too slowly, and after the connection closed. */
  readonly ready: () => boolean;
  readonly push: (body: ServiceBody) => void;
  /** A frame that is encoded already, for many. */
  readonly pushEncoded: (frame: Bytes) => void;
  /** The entries that the peer needs cannot be read: it has to come back and ask again. */
  readonly hintResume: () => void;
  readonly failed: (error: unknown) => void;
}

/** The leaf for which a connection has a group open. */
export interface OpenedLeaf {
  readonly signatureKey: Bytes;
  /** Undefined for a leaf that was removed. */
  readonly leaf: FollowedLeaf | undefined;
  /** Epoch in which `leaf` was looked at. */
  readonly epoch: number;
  /** Sequence number of the commit that removed it. */
  readonly removedAt: number | undefined;
}

/** The name of a leaf within its group: its signature key, which no two leaves share and no leaf changes. */
export const leafName = (signatureKey: Uint8Array): string => toHex(signatureKey);

/**
 * One group on one connection: what its leaf may do, and its log, pushed in order, page by page, never more than the
 * window allows and only while the peer keeps reading. Two entries follow each other without a gap, or nothing comes.
 */
export class GroupReader {
  readonly name: string;
  readonly signatureKey: Bytes;
  readonly group: LiveGroup;
  private readonly context: ServiceContext;
  private readonly outlet: GroupOutlet;
  private opened: OpenedLeaf;
  /** Banned, or the group was closed on the connection. */
  private shut: "no" | "banned" | "closed" = "no";
  /** Undefined until the client asks for entries. */
  private sentThrough: number | undefined;
  private acknowledgedThrough = 0;
  private running = false;
  private wanted = false;
  /** The members may be others, and nobody knows yet whether it is one: until then it is sent nothing. */
  private inDoubt = false;
  private looksLater = false;

  constructor(context: ServiceContext, group: LiveGroup, opened: OpenedLeaf, outlet: GroupOutlet) {
    this.context = context;
    this.group = group;
    this.opened = opened;
    this.signatureKey = opened.signatureKey;
    this.name = leafName(opened.signatureKey);
    this.outlet = outlet;
  }

  /** Index of the leaf when it was last looked at; undefined once it was removed or banned. */
  get leafIndex(): number | undefined {
    return this.shut === "no" && this.opened.removedAt === undefined
      ? this.opened.leaf?.leafIndex
      : undefined;
  }

  /** With whom it is counted in the line of turns: its account. */
  get origin(): string | undefined {
    const leaf = this.leafIndex === undefined ? undefined : this.opened.leaf;
    return leaf && toHex(leaf.accountId);
  }

  /** It follows the group through this entry, and so vouches for the commits up to there. */
  vouch(throughSequence: number): void {
    const { signatureKey } = this;
    const accountId = this.leafIndex === undefined ? undefined : this.opened.leaf?.accountId;
    if (accountId === undefined) return;
    const { groupId, provisional } = this.group;
    if (!provisional.vouch({ accountId, signatureKey }, throughSequence)) return;
    this.context.groupMemory.vouch(groupId, provisional.sequence, this.name, toHex(accountId));
  }

  /** Whose questions about the group these are. */
  get payer(): Payer {
    return this.outlet;
  }

  /** False once it was banned or closed. */
  get isOpen(): boolean {
    return this.shut === "no";
  }

  get removed(): boolean {
    return this.opened.removedAt !== undefined;
  }

  /** The newest entry that its device has put down. */
  get acknowledged(): number {
    return this.acknowledgedThrough;
  }

  /** A member that asked for entries and has not put all of them down. */
  get isBehind(): boolean {
    const { leafIndex, sentThrough } = this;
    return (
      leafIndex !== undefined && sentThrough !== undefined && this.acknowledgedThrough < this.mayReadThrough
    );
  }

  /** The newest entry that this leaf may read. */
  get mayReadThrough(): number {
    return Math.min(this.opened.removedAt ?? Number.POSITIVE_INFINITY, this.group.lastSequence);
  }

  /**
   * The leaf as it is in the group's present epoch. O(1), one question to the validator after each commit. Throws
   * RejectionError `group/not-a-member`, `rate/limited`.
   */
  async member(): Promise<FollowedLeaf> {
    if (this.opened.epoch !== this.group.epoch)
      this.take(await this.group.lookUp(this.signatureKey, this.payer));
    const { leaf, removedAt } = this.opened;
    if (this.shut !== "no" || removedAt !== undefined || leaf === undefined) {
      throw new RejectionError("group/not-a-member");
    }
    return leaf;
  }

  /** Asks anew whether the leaf is a member, after commits or bans; again and again where that cannot be found out. */
  async lookAtLeaf(): Promise<void> {
    this.inDoubt = true;
    const opened = await this.group.lookUp(this.signatureKey).catch((error: unknown) => {
      this.lookAtLeafLater();
      throw error;
    });
    this.inDoubt = false;
    this.take(opened);
  }

  private take(opened: OpenedLeaf | undefined): void {
    if (opened === undefined) this.shutOut();
    else this.opened = opened;
    this.lookAgain();
  }

  private lookAtLeafLater(): void {
    if (this.looksLater) return;
    this.looksLater = true;
    this.context.clock.after(OVERLOADED_RETRY_MS, () => {
      this.looksLater = false;
      if (this.inDoubt && this.isOpen) this.lookAtLeaf().catch(() => {});
    });
  }

  /** The leaf was removed by this commit: nothing behind it is sent. To be called before anything behind it exists. */
  endAt(sequence: number): void {
    this.opened = { ...this.opened, leaf: undefined, removedAt: sequence };
  }

  /** Banned: nothing is sent or taken any more, from this moment on. */
  shutOut(): void {
    if (this.shut === "no") this.shut = "banned";
  }

  close(): void {
    this.shut = "closed";
  }

  /** Delivers what comes behind this entry from now on. */
  start(afterSequence: number): void {
    const from = Math.min(afterSequence, this.group.lastSequence);
    this.sentThrough = from;
    this.acknowledgedThrough = from;
    this.lookAgain();
  }

  /** Tells the leaf something. A voice of the line of turns may keep this. */
  readonly push = (body: ServiceBody): void => {
    if (this.shut === "no") this.outlet.push(body);
  };

  /** The log may have grown, or there is room again. Several calls make one run. */
  lookAgain(): void {
    this.wanted = true;
    if (!this.running && this.sentThrough !== undefined) void this.run();
  }

  /**
   * The device has everything up to this entry in its own database. Throws RejectionError `group/not-delivered` for
   * an entry beyond what this connection was sent.
   */
  acknowledge(through: number): void {
    if (this.sentThrough === undefined || through > this.sentThrough) {
      throw new RejectionError("group/not-delivered");
    }
    this.acknowledgedThrough = Math.max(this.acknowledgedThrough, through);
    this.lookAgain();
  }

  private async run(): Promise<void> {
    this.running = true;
    try {
      while (this.wanted && this.mayPush()) {
        this.wanted = false;
        while (this.mayPush() && (await this.pushPage()));
      }
    } catch (error) {
      if (!(error instanceof UnavailableError)) this.outlet.failed(error);
      else if (error.code === "group/gap") this.outlet.hintResume();
      // Nobody says when the engine is back, and nothing else may come that has this reader look.
      else this.context.clock.after(OVERLOADED_RETRY_MS, () => this.lookAgain());
    } finally {
      this.running = false;
    }
  }

  private mayPush(): boolean {
    return this.shut === "no" && !this.inDoubt && this.outlet.ready();
  }

  /** Sends one page; false when there is none, or no room for it. */
  private async pushPage(): Promise<boolean> {
    const after = this.sentThrough!;
    const through = this.mayReadThrough;
    const { lastSequence } = this.group;
    if (after >= through) return false;
    const page = await this.group.pages.page({ groupId: this.group.groupId, after, through, lastSequence });
    if (page === undefined) return false;
    // While the page was read the leaf may have been removed, banned, or started elsewhere.
    if (!this.mayPush() || this.sentThrough !== after) return false;
    if (page.through > this.mayReadThrough) return true;
    const unacknowledged = after - this.acknowledgedThrough;
    if (unacknowledged + page.entries > this.context.limits.unacknowledgedEntries) return false;
    this.sentThrough = page.through;
    this.outlet.pushEncoded(page.frame);
    this.context.metrics.count("group_entries_delivered", "", page.entries);
    return true;
  }
}
