import { MurmurationError, toHex } from "@murmuration/base";
import { internalsOf } from "../../src/group/group.ts";
import { encodeHead, encodeRetained } from "../../src/group/group-rows.ts";
import { disableRule, type RuleId } from "../../src/rules.ts";
import type { Client } from "../clients.ts";

/** Runs the action with these rules switched off: as a sender, or a careless receiver, that does not know them. */
export function without<T>(off: readonly RuleId[], action: () => T): T {
  const enable = off.map(disableRule);
  try {
    return action();
  } finally {
    for (const switchOn of enable) switchOn();
  }
}

/** The code of the error that the action throws, or "accepted". */
export function outcome(action: () => unknown): string {
  try {
    action();
    return "accepted";
  } catch (error) {
    return error instanceof MurmurationError ? error.code : `threw ${(error as Error).name}`;
  }
}

/**
 * Everything that a client's group holds in memory, and its rows, as text. Of secret trees what the rows do not say:
 * a tree that was loaded reads its rows as it needs them, which changes nothing.
 */
export function memoryOf(client: Client): string {
  const inside = internalsOf(client.group);
  const { state, retained, proposals, ownUpdates, resumptionPsks, pending } = inside;
  const hex = (rows: Iterable<readonly [string, Uint8Array]>) =>
    [...rows].map(([key, row]) => `${key} ${toHex(row)}`);
  const unsaved = (epoch: bigint, rows: Iterable<readonly [string, Uint8Array]>) =>
    hex(rows).filter((row) => {
      const [key, value] = row.split(" ");
      const saved = client.store.get(`s${epoch}/${key}`);
      return saved === undefined || toHex(saved) !== value;
    });
  const stored = [...client.store.keys("")].map((key) => [key, client.store.get(key)!] as const);
  return [
    toHex(encodeHead(state, inside.status, inside.treeLog, inside.reinit)),
    toHex(state.public.tree.encode()),
    toHex(state.public.tree.treeHash()),
    ...unsaved(state.public.context.epoch, state.secretTree.rows()),
    ...[...retained.values()].map((epoch) => toHex(encodeRetained(epoch))),
    ...[...retained.values()].flatMap((epoch) => unsaved(epoch.epoch, epoch.secretTree.rows())),
    ...proposals.all().map(({ reference }) => toHex(reference)),
    ...ownUpdates.keys(),
    ...hex([...resumptionPsks].map(([epoch, psk]) => [`${epoch}`, psk] as const)),
    pending === undefined ? "" : toHex(pending.message),
    ...hex(stored),
  ].join("\n");
}
