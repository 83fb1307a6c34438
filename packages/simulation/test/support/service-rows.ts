/** What a service has stored of a group: for whoever runs it, or stole its disk. */
import { type Bytes, parseGroupId, toHex } from "@murmuration/base";
import { query } from "../../../delivery-service/test/support/database.ts";
import type { World } from "../../src/index.ts";

export interface StoredEpoch {
  readonly epoch: number;
  readonly groupInfo: Bytes;
  readonly treeHash: Bytes;
}

export interface StoredEntry {
  readonly sequence: number;
  readonly kind: "application" | "proposal" | "commit" | "void";
  readonly message: Bytes;
  /** Of a void entry: the commit that does not count. */
  readonly voids: number | undefined;
}

const ask = (world: World, id: string, sql: string) =>
  query(
    `${world.serviceDirectory}/delivery-service.sqlite`,
    sql.replace("?", `x'${toHex(parseGroupId(id))}'`),
  );

/** The present epoch. */
export function storedEpoch(world: World, id: string): StoredEpoch {
  const [row] = ask(
    world,
    id,
    `SELECT e.epoch, e.group_info, e.tree_hash FROM mls_epochs e JOIN mls_groups g USING (mls_group)
     WHERE g.group_id = ? ORDER BY e.epoch DESC LIMIT 1`,
  );
  if (row === undefined) throw new Error("no such group");
  const { epoch, group_info: info, tree_hash: hash } = row;
  return { epoch: epoch as number, groupInfo: bytesOf(info), treeHash: bytesOf(hash) };
}

/** The log, in order. */
export function storedLog(world: World, id: string): readonly StoredEntry[] {
  const rows = ask(
    world,
    id,
    `SELECT e.sequence, e.kind, e.message, e.voids FROM mls_entries e JOIN mls_groups g USING (mls_group)
     WHERE g.group_id = ? ORDER BY e.sequence`,
  );
  return rows.map((row) => ({
    sequence: row["sequence"] as number,
    kind: row["kind"] as StoredEntry["kind"],
    message: bytesOf(row["message"]),
    voids: (row["voids"] as number | null) ?? undefined,
  }));
}

const bytesOf = (value: unknown): Bytes => new Uint8Array(value as Uint8Array);
