import type { AccountId } from "@murmuration/base";
import type { Contacts } from "../api.ts";
import type { NewMember } from "../core/group-change.ts";
import type { Communities } from "../shell/communities/communities.ts";
import type { Context } from "../shell/context.ts";
import type { Groups } from "../shell/groups.ts";
import type { Maintenance } from "../shell/maintenance.ts";
import type { Migrations } from "../shell/migration/migrations.ts";
import type { Passing } from "../shell/passing.ts";
import type { Receipts } from "../shell/receipts.ts";
import type { Receiver } from "../shell/receiver.ts";
import type { Sender } from "../shell/sender.ts";

/** What handles given to the application work with. */
export interface ClientParts {
  readonly context: Context;
  readonly contacts: Contacts;
  readonly groups: Groups;
  readonly communities: Communities;
  readonly maintenance: Maintenance;
  readonly migrations: Migrations;
  readonly passing: Passing;
  readonly receipts: Receipts;
  readonly receiver: Receiver;
  readonly sender: Sender;
  wakeAll(): void;
  wakeOwn(): void;
  /** What a group record says of accounts: their identity keys are looked up, unknown accounts are refused. */
  newMembers(accounts: readonly AccountId[]): Promise<readonly NewMember[]>;
}
