import type { Bytes } from "@murmuration/base";
import { formatId, groupId } from "@murmuration/base";
import type { Context } from "./context.ts";

/** What a person is told of a service that contradicts a group's record, or of a record that its MLS group cannot follow. */
export type Suspicion =
  /** It shows less of the record than it had shown before. */
  | "group/rolled-back"
  /** It names another state of the migration than the record says. */
  | "migration/state-mismatch"
  /** It refuses what is sent to the group, and the record does not say why. */
  | "migration/refused-without-notice"
  /** Somebody who is no owner or admin over MLS any more has begun the move anew in the record. */
  | "migration/recovery-refused"
  /** It has more owners and admins than an MLS group can. */
  | "migration/too-many-role-holders";

/** Tells a person once of each, for as long as the client runs: a service that goes on with it has nothing new to say. */
export class Suspicions {
  private readonly context: Context;
  private readonly told = new Set<string>();

  constructor(context: Context) {
    this.context = context;
  }

  note(group: Bytes, code: Suspicion): void {
    const { context, told } = this;
    const key = `${code} ${formatId(groupId(group))}`;
    if (told.has(key)) return;
    const event = { kind: "decision-needed", conversation: group, detail: code } as const;
    context.transaction(() => context.events.append({ ...event, atMs: context.now() }));
    told.add(key);
    context.notifier.flush();
  }
}
