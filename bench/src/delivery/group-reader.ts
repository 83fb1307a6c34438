/** Opening a group on a connection, as a member's leaf does, and reading its log. */
import { type Bytes, type GroupId, groupId } from "@murmuration/base";
import { encodeLeafAccessTbs, GROUP_ACCESS_LABEL, type ServiceBody } from "@murmuration/wire";
import { signWithLabel } from "../mls/key-material.ts";
import type { ServiceClient } from "./service-client.ts";

/** A group as its members know it, without what encrypts. */
export interface GroupPlace {
  readonly groupId: Bytes;
  readonly epoch: number;
  /** The service's certificate trust root. */
  readonly service: Bytes;
}

/** One leaf of it, with the key that signs for it. */
export interface LeafKey {
  readonly leafIndex: number;
  readonly privateKey: Bytes;
}

/** As many entries as the client of this project acknowledges in one frame. */
const ACKNOWLEDGED_TOGETHER = 64;

/** Opens the group for a leaf; with `afterSequence` entries behind it follow. Rejects when access is refused. */
export async function openGroup(
  client: ServiceClient,
  place: GroupPlace,
  { leafIndex, privateKey }: LeafKey,
  afterSequence?: number,
): Promise<void> {
  const { epoch, service } = place;
  const leaf = { groupId: groupId(place.groupId), epoch, leafIndex };
  const tbs = encodeLeafAccessTbs({ ...leaf, service, challenge: client.challenge });
  const signature = signWithLabel(privateKey, GROUP_ACCESS_LABEL, tbs);
  const after = afterSequence === undefined ? {} : { afterSequence };
  await client.expect({ kind: "groupAccess", ...leaf, signature, marks: [], ...after }, "groupAccessGranted");
}

/** Reads a log on an open connection; the client acknowledges like one that puts entries into its database. */
export function readEntries(
  client: ServiceClient,
  id: GroupId,
  took: (numbers: readonly number[]) => number,
): void {
  let acknowledged = 0;
  client.onPush = (body) => {
    const numbers = numbersOf(body);
    if (numbers === undefined) return;
    const through = took(numbers);
    if (through < acknowledged + ACKNOWLEDGED_TOGETHER) return;
    acknowledged = through;
    client.tell({ kind: "groupAcknowledge", groupId: id, throughSequence: through });
  };
}

const numbered = new WeakMap<ServiceBody, readonly number[]>();

/** Sequence numbers of the entries; undefined for any other body. Bodies that came to many are the same object. */
export function numbersOf(body: ServiceBody): readonly number[] | undefined {
  if (body.kind !== "groupEntries") return undefined;
  const known = numbered.get(body) ?? body.entries.map(({ sequence }) => sequence);
  numbered.set(body, known);
  return known;
}
