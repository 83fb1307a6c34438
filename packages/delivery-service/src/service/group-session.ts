import { formatId, type GroupId, RejectionError, toHex } from "@murmuration/base";
import type { ClientBody, GroupAccessFrame, GroupAcknowledge, ServiceBody } from "@murmuration/wire";
import { addressKey } from "../core/token-bucket.ts";
import { joinerName } from "../core/turn-line.ts";
import {
  type AnonymousPeer,
  chargeAccess,
  chargeAddress,
  createGroup,
  findLeaf,
  giveGroupInfo,
  grantAccess,
} from "./group-access.ts";
import { commitToGroup } from "./group-commits.ts";
import { type GroupOutlet, GroupReader } from "./group-delivery.ts";
import type { GroupHub, GroupInUse } from "./group-hub.ts";
import { proposeToGroup, setLeafHandle, submitToGroup } from "./group-messages.ts";
import { banFromGroup, refuseCommit } from "./group-orders.ts";
import { Refeeding } from "./group-refeeds.ts";
import type { Voice } from "./group-turns.ts";

export type GroupBody = Extract<ClientBody, { readonly kind: `group${string}` }>;

export const isGroupBody = (body: ClientBody): body is GroupBody => body.kind.startsWith("group");

interface Opened extends GroupInUse {
  readonly reader: GroupReader;
  readonly release: () => void;
}

/** An answer, and what may happen only after it was sent. */
export interface Served {
  readonly answer: ServiceBody;
  readonly after?: () => void;
}

/** Refused accesses of a connection before each further one counts towards the rate of its address. */
const FREE_REFUSALS = 8;
const DONE: ServiceBody = { kind: "groupDone" };

/** The MLS groups of one anonymous connection: those that it has open, and where it waits to join. */
export class GroupSession {
  private readonly hub: GroupHub;
  private readonly peer: AnonymousPeer;
  private readonly outlet: GroupOutlet;
  private readonly opened = new Map<string, Opened>();
  /** Groups whose GroupInfo the connection was given. */
  private readonly informed = new Set<string>();
  /** Groups in whose lines this connection waits without a leaf. */
  private readonly joining = new Map<string, () => void>();
  private readonly name: string;
  private readonly refeeding: Refeeding;
  private ended = false;
  private named = false;
  private refusedAccesses = 0;

  constructor(hub: GroupHub, peer: AnonymousPeer, outlet: GroupOutlet) {
    this.hub = hub;
    this.peer = peer;
    this.outlet = outlet;
    this.refeeding = new Refeeding(hub, peer);
    // Of one line for all nodes.
    this.name = joinerName(toHex(hub.context.random.bytes(8)));
  }

  /** Answers one frame. Throws RejectionError. */
  async serve(body: GroupBody): Promise<Served> {
    return body.kind === "groupAccess" ? this.access(body) : { answer: await this.answer(body) };
  }

  private async answer(body: Exclude<GroupBody, { kind: "groupAccess" }>): Promise<ServiceBody> {
    const { context } = this.hub;
    switch (body.kind) {
      case "groupCreate":
        return { kind: "groupCreated", ...(await createGroup(context, this.peer, body)) };
      case "groupAcknowledge":
        this.acknowledge(body);
        return DONE;
      case "groupSubmit": {
        const { reader } = this.require(body.groupId);
        const accepted = await submitToGroup(context, this.peer, reader, body);
        // Also for one that is repeated: a crash may have come before its wake-ups.
        this.hub.wakes?.message(body.groupId, body.mentions);
        return { kind: "groupSubmitAccepted", ...accepted };
      }
      case "groupCommit":
        return this.commit(body);
      case "groupPropose": {
        const { reader, turns } = this.require(body.groupId);
        await proposeToGroup(context, this.peer, reader, turns, body);
        return { kind: "groupProposeAccepted" };
      }
      case "groupTurnRelease":
        return this.releaseTurn(body.groupId, body.turn);
      case "groupInfoRequest": {
        const give = ({ live }: GroupInUse) => giveGroupInfo(context, this.peer, live, body);
        const reply = await this.hub.use(body.groupId, give);
        if (this.informed.size < context.limits.groupsPerConnection)
          this.informed.add(formatId(body.groupId));
        return { kind: "groupInfoReply", ...reply };
      }
      case "groupBan": {
        const opened = this.require(body.groupId);
        await banFromGroup(context, opened, opened.reader, body);
        return DONE;
      }
      case "groupRefuse": {
        const opened = this.require(body.groupId);
        await refuseCommit(context, opened, opened.reader, body);
        return DONE;
      }
      case "groupRefeed": {
        const opened = this.require(body.groupId);
        await this.refeeding.take(opened, opened.reader, body);
        return DONE;
      }
      case "groupPushHandle": {
        await setLeafHandle(context, this.require(body.groupId).reader, body);
        return DONE;
      }
    }
  }

  /** True once a leaf has opened a group here: its credential names an account. */
  get isNamed(): boolean {
    return this.named;
  }

  /** The connection's send buffer is empty again. */
  lookAgain(): void {
    for (const { reader } of this.opened.values()) reader.lookAgain();
  }

  /** The connection ended. */
  end(): void {
    this.ended = true;
    this.refeeding.end();
    for (const key of this.opened.keys()) this.close(key);
    for (const leave of this.joining.values()) leave();
    this.joining.clear();
  }

  private async access(frame: GroupAccessFrame): Promise<Served> {
    const { context } = this.hub;
    const key = formatId(frame.groupId);
    if (!this.opened.has(key) && this.opened.size >= context.limits.groupsPerConnection) {
      throw new RejectionError("group/too-many-open");
    }
    await chargeAccess(context, this.peer);
    if (this.refusedAccesses >= FREE_REFUSALS) await chargeAddress(context, this.peer);
    const held = await this.hub.hold(frame.groupId);
    try {
      const found = await findLeaf(context, this.peer, held.live, frame);
      const reader = new GroupReader(context, held.live, found, this.outlet);
      // From here on it hears of removals and bans; what happened while it was looked up it sees now.
      held.live.add(reader);
      try {
        if (found.epoch !== held.live.epoch || held.live.isBanned(found.signatureKey))
          await reader.lookAtLeaf();
        if (!reader.isOpen) throw new RejectionError("group/not-a-member");
        const { granted, inStep } = await grantAccess(context, this.peer, held.live, frame, reader);
        if (this.ended) throw new RejectionError("group/not-open");
        this.close(key);
        this.opened.set(key, { ...held, reader });
        this.named = true;
        this.hub.wakes?.came(frame.groupId, reader.name);
        const after = this.opening(held, reader, frame, inStep);
        return { answer: { kind: "groupAccessGranted", ...granted }, after };
      } catch (error) {
        held.live.delete(reader);
        throw error;
      }
    } catch (error) {
      held.release();
      this.refusedAccesses++;
      throw error;
    }
  }

  /** Behind the answer come entries, and a turn that is the leaf's; nothing for one that knows another log. */
  private opening(
    { live, turns }: GroupInUse,
    reader: GroupReader,
    frame: GroupAccessFrame,
    inStep: boolean,
  ): () => void {
    if (!inStep) return () => {};
    // Its epoch alone does not say so: it may be one of this number that was taken back.
    const { afterSequence = -1, epoch } = frame;
    const follows = epoch >= live.epoch && afterSequence >= live.lastCommitSequence;
    if (follows && !reader.removed) reader.vouch(live.lastCommitSequence);
    return () => {
      if (frame.afterSequence !== undefined) reader.start(frame.afterSequence);
      if (!reader.removed) turns.came(reader.name);
    };
  }

  private acknowledge({ groupId, throughSequence }: GroupAcknowledge): void {
    const { reader } = this.require(groupId);
    reader.acknowledge(throughSequence);
    reader.vouch(throughSequence);
    this.hub.cursors.note(groupId, reader.signatureKey, throughSequence);
  }

  private async commit(body: Extract<GroupBody, { kind: "groupCommit" }>): Promise<ServiceBody> {
    const key = formatId(body.groupId);
    const reader = this.opened.get(key)?.reader;
    const voice: Voice = reader?.leafIndex !== undefined ? reader : this.joiner();
    const held = await this.hub.hold(body.groupId);
    try {
      const committer = { peer: this.peer, reader, mayJoin: this.informed.has(key), voice };
      const answer = await commitToGroup(this.hub, held, committer, body);
      if (answer.kind === "groupCommitLost" && voice !== reader) this.waitToJoin(key, held);
      return answer;
    } finally {
      held.release();
    }
  }

  private joiner(): Voice {
    const origin = addressKey(this.peer.remoteAddress);
    return { name: this.name, origin, push: (answer) => this.outlet.push(answer) };
  }

  /** Who waits without a leaf loses its place, and its turn, with the connection. */
  private waitToJoin(key: string, { turns }: GroupInUse): void {
    const leave = () => turns.gone(this.name);
    if (this.ended) leave();
    else this.joining.set(key, leave);
  }

  private async releaseTurn(groupId: GroupId, turn: number): Promise<ServiceBody> {
    await chargeAccess(this.hub.context, this.peer);
    const name = this.opened.get(formatId(groupId))?.reader.name ?? this.name;
    const released = await this.hub.use(
      groupId,
      async ({ turns }) => (await turns.released(name, turn)) || turns.released(this.name, turn),
    );
    if (!released) throw new RejectionError("group/turn-passed");
    return DONE;
  }

  private require(groupId: GroupId): Opened {
    const opened = this.opened.get(formatId(groupId));
    if (opened === undefined) throw new RejectionError("group/not-open");
    return opened;
  }

  private close(key: string): void {
    const opened = this.opened.get(key);
    if (opened === undefined) return;
    this.opened.delete(key);
    const { live, reader, release, turns } = opened;
    const { isBehind } = reader;
    reader.close();
    if (live.delete(reader)) {
      turns.left(reader.name);
      this.hub.wakes?.left(live.groupId, reader.name, isBehind);
    }
    release();
  }
}
