/** Refusals of a commit, signed with the keys of whoever is named, and void entries made of them by a service that lies. */
import { createHash } from "node:crypto";
import { type Bytes, parseGroupId } from "@murmuration/base";
import {
  encodeGroupRefuseTbs,
  GROUP_REFUSE_LABEL,
  type GroupEntry,
  type GroupRefusal,
} from "@murmuration/wire";
import type { SimulatedDevice } from "../../src/index.ts";
import type { TamperedLog } from "./entry-mischief.ts";
import type { Outlaw } from "./outlaw.ts";

/** Signs that this leaf cannot follow a commit, whatever its device really did with it. */
export function refusalBy(
  outlaw: Outlaw,
  id: string,
  about: { readonly sequence: number; readonly commit: Bytes },
): GroupRefusal {
  const group = outlaw.group(id);
  const commitHash = new Uint8Array(createHash("sha256").update(about.commit).digest());
  const { sequence } = about;
  const content = encodeGroupRefuseTbs({ groupId: parseGroupId(id), sequence, commitHash });
  return { leafIndex: group.ownLeaf, signature: group.signForService(GROUP_REFUSE_LABEL, content) };
}

/** The newest commit that this client was told of. */
export function newestCommit(log: TamperedLog): { readonly sequence: number; readonly commit: Bytes } {
  const entries = log.sent.flatMap((page) => page.entries);
  const { commit, sequence } = entries.findLast((entry) => entry.commit !== undefined)!;
  return { sequence, commit: commit!.commit };
}

/** Tells the client that a commit counts no longer. */
export function takeBack(
  log: TamperedLog,
  id: string,
  sequence: number,
  refusals: readonly GroupRefusal[],
): void {
  const last = log.sent.at(-1)!.lastSequence;
  const entry: GroupEntry = { sequence: last + 1, serverTimeMs: Date.now(), void: { sequence, refusals } };
  log.inject({ groupId: parseGroupId(id), entries: [entry], lastSequence: entry.sequence });
}

/** How often a person was asked because others may be in another group. */
export const askedOfForks = ({ client }: SimulatedDevice): number =>
  client.events
    .read(0, 1_000)
    .filter((event) => event.kind === "decision-needed" && event.code === "group/forked").length;
