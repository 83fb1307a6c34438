/** Reads from PostgreSQL what nodes have left there, by other means than theirs. */
import { Reader } from "@murmuration/base";

interface Entry {
  readonly sequence: number;
  readonly kind: "application" | "proposal" | "commit" | "void";
  /** Sequence number of the commit that a void entry takes back. */
  readonly voids: number | null;
  readonly message: Uint8Array;
}

/** The log of one community, oldest entry first. */
export interface GroupLog {
  readonly epoch: number;
  readonly firstSequence: number;
  readonly lastSequence: number;
  readonly entries: readonly Entry[];
}

type Query = (text: string) => Promise<readonly Readonly<Record<string, unknown>>[]>;

const SCHEMA = "murmuration";

export async function readGroupLogs(query: Query): Promise<readonly GroupLog[]> {
  const groups = await query(
    `SELECT mls_group::int AS number, epoch::int, first_sequence::int AS first, last_sequence::int AS last
     FROM ${SCHEMA}.mls_groups ORDER BY mls_group`,
  );
  const entries = await query(
    `SELECT mls_group::int AS number, sequence::int, kind, voids::int, message
     FROM ${SCHEMA}.mls_entries ORDER BY mls_group, sequence`,
  );
  return groups.map(({ number, epoch, first, last }) => ({
    epoch: epoch as number,
    firstSequence: first as number,
    lastSequence: last as number,
    entries: entries.filter((entry) => entry["number"] === number) as unknown as Entry[],
  }));
}

/** Welcomes that have not left for a mailbox. */
export async function countOutbox(query: Query): Promise<number> {
  const [row] = await query(`SELECT count(*)::int AS waiting FROM ${SCHEMA}.mls_outbox`);
  return row!["waiting"] as number;
}

/** Whether the log has each sequence number from the first to the last one once. */
export function isGapless({ firstSequence, lastSequence, entries }: GroupLog): boolean {
  return (
    entries.length === lastSequence - firstSequence + 1 &&
    entries.every(({ sequence }, index) => sequence === firstSequence + index)
  );
}

/**
 * Epochs that other than one commit leads on from, out of those before the group's. By the commits' own bytes: that the
 * tables say so as well is what their constraints are for.
 */
export function epochsWithoutOneCommit({ epoch, entries }: GroupLog): readonly number[] {
  const taken = new Set(entries.flatMap(({ voids }) => voids ?? []));
  const counts = new Map<number, number>();
  for (const { kind, sequence, message } of entries) {
    if (kind !== "commit" || taken.has(sequence)) continue;
    const from = epochOf(message);
    counts.set(from, (counts.get(from) ?? 0) + 1);
  }
  const first = Math.min(epoch, ...counts.keys());
  const expected = Array.from({ length: epoch - first }, (_, index) => first + index);
  const wrong = expected.filter((from) => counts.get(from) !== 1);
  return [...wrong, ...[...counts.keys()].filter((from) => from >= epoch)];
}

/** RFC 9420 section 6: version, wire format, group id and epoch begin a PublicMessage. */
function epochOf(message: Uint8Array): number {
  const reader = new Reader(message);
  reader.uint16();
  reader.uint16();
  reader.bytes();
  return Number(reader.uint64());
}
