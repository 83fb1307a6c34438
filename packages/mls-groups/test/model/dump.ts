import { toHex, utf8 } from "@murmuration/base";
import { type Group, internalsOf } from "../../src/group/group.ts";
import {
  encodeHead,
  encodeOwnUpdate,
  encodePending,
  encodeProposalRow,
  encodeRetained,
} from "../../src/group/group-rows.ts";
import type { Internals } from "../../src/group/internals.ts";
import { type GroupWrites, MemoryGroupStore } from "../../src/index.ts";

/** Rows or values by name, in hex: two of them are compared with toEqual. */
export type Dump = Readonly<Record<string, string>>;

/** Every row of a store. */
export function dumpRows(store: MemoryGroupStore): Dump {
  return Object.fromEntries([...store.rows].map(([key, row]) => [key, toHex(row)]).sort());
}

/**
 * Everything a group holds in memory but for its secret trees, whose rows are read when they are needed: see
 * {@link dumpSecretTrees}.
 */
export function dumpMemory(group: Group): Dump {
  const inside = internalsOf(group);
  const { state } = inside;
  const entries: [string, Uint8Array][] = [
    ["head", encodeHead(state, inside.status, inside.treeLog, inside.reinit)],
    ["context", state.public.contextBytes],
    ["tree", state.public.tree.encode()],
    ["tree snapshot", state.public.tree.encodeSnapshot()],
    ["tree hash", state.public.tree.treeHash()],
    ["interim transcript hash", state.public.interimTranscriptHash],
    [
      "order of proposals",
      utf8(
        inside.proposals
          .all()
          .map(({ order }) => `${order}`)
          .join(),
      ),
    ],
    ["order of retained epochs", utf8([...inside.retained.keys()].join())],
  ];
  for (const retained of inside.retained.values())
    entries.push([`retained ${retained.epoch}`, encodeRetained(retained)]);
  for (const cached of inside.proposals.all())
    entries.push([`proposal ${toHex(cached.reference)}`, encodeProposalRow(cached)]);
  for (const [reference, keys] of inside.ownUpdates)
    entries.push([`own update ${reference}`, encodeOwnUpdate(keys)]);
  for (const [epoch, psk] of inside.resumptionPsks) entries.push([`resumption psk ${epoch}`, psk]);
  if (inside.pending !== undefined) entries.push(...pendingOf(inside.pending));
  return Object.fromEntries(entries.map(([name, bytes]) => [name, toHex(bytes)]));
}

function pendingOf(pending: NonNullable<Internals["pending"]>): [string, Uint8Array][] {
  const { next } = pending.staged;
  return [
    ["pending", encodePending(pending)],
    ["pending epoch", next!.public.contextBytes],
    ["pending authenticator", next!.secrets.epochAuthenticator],
    ["pending init secret", next!.secrets.initSecret],
    ["pending tree", next!.public.tree.encode()],
  ];
}

/** The rows of all secret trees that are in memory now, by their key in the store. */
export function dumpSecretTrees(group: Group): Dump {
  const { state, retained } = internalsOf(group);
  const trees = [...retained.values()].map(({ epoch, secretTree }) => ({ epoch, secretTree }));
  trees.push({ epoch: state.public.context.epoch, secretTree: state.secretTree });
  return Object.fromEntries(
    trees.flatMap(({ epoch, secretTree }) =>
      [...secretTree.rows()].map(([key, row]) => [`s${epoch}/${key}`, toHex(row)]),
    ),
  );
}

/** A store that remembers what it held before and after each write set, and can be cut off before the next one. */
export class CrashStore extends MemoryGroupStore {
  /** Set while the process is dead: what is written then is lost. */
  crashed = false;
  writeSets = 0;

  override apply(writes: GroupWrites): void {
    this.writeSets++;
    if (!this.crashed) super.apply(writes);
  }

  copy(): CrashStore {
    const copy = new CrashStore();
    for (const [key, row] of this.rows) copy.rows.set(key, row.slice());
    return copy;
  }
}
