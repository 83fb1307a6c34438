/**
 * THE place where a conversation meets the MLS group that carries it. A conversation keeps its id for good; the MLS group
 * of a migrated one has an id of its own (docs/adr/0009), and everybody else knows it by that.
 *
 *   by the conversation's id     tables, queues, lanes, outbox, history, events, whatever the application sees
 *   by the MLS group's id        frames, Welcomes, what is signed or hashed, invite links, content inside MLS messages,
 *                                what members say pairwise about a group (epoch reports, requests to join)
 *
 * Frames go out through {@link GroupNames.ask} and {@link GroupNames.tell}, come in through {@link GroupNames.incoming},
 * and content goes through {@link GroupNames.addressed}. What is signed or hashed names {@link GroupNames.wire}. Answers
 * of the service name no group. Nothing here costs a statement.
 */
import { type Bytes, equalBytes, type GroupId } from "@murmuration/base";
import type { ServiceBody } from "@murmuration/wire";
import { content as contentType, encodeContent } from "../../core/content.ts";
import type { Connection, GroupBody } from "../connection.ts";
import type { Context } from "../context.ts";

export class GroupNames {
  private readonly context: Context;
  private readonly connection: Pick<Connection, "group" | "tellGroup">;

  constructor(context: Context, connection: Pick<Connection, "group" | "tellGroup">) {
    this.context = context;
    this.connection = connection;
  }

  /** The id under which others know the group of a conversation. */
  wire(id: Bytes): GroupId {
    return this.context.mls.wireIdOf(id);
  }

  /** The conversation that a group carries. */
  conversation(wireId: Bytes): GroupId {
    return this.context.mls.conversationOf(wireId);
  }

  /** Asks the service about a conversation's group. Rejects like {@link Connection.group}. */
  ask(body: GroupBody, answered?: () => void): Promise<ServiceBody> {
    return this.connection.group({ ...body, groupId: this.wire(body.groupId) }, answered);
  }

  /** Says something about a conversation's group that needs no answer. */
  tell(body: GroupBody): void {
    this.connection.tellGroup({ ...body, groupId: this.wire(body.groupId) });
  }

  /** A frame that nobody asked for, naming the conversation. */
  incoming(body: ServiceBody): ServiceBody {
    if (body.kind !== "groupEntries" && body.kind !== "groupTurn") return body;
    return { ...body, groupId: this.conversation(body.groupId) };
  }

  /** Content of the outbox as a group of another name than its conversation has to read it. */
  addressed(id: Bytes, encoded: Bytes): Bytes {
    const groupId = this.wire(id);
    if (equalBytes(groupId, id)) return encoded;
    // It may have been written down when the conversation was pairwise, with the revision of its record. What was said
    // then is named, so that nobody shows this before it.
    const last = this.context.migration.lastSent(id);
    const name = this.context.meta.text("name");
    const group = { groupId, revision: 0, name, ...last };
    return encodeContent({ ...contentType.decode(encoded), group });
  }
}
