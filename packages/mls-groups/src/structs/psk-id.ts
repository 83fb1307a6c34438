import { type Bytes, type Reader, RejectionError, type Writer } from "@murmuration/base";
import { encodeParts } from "./encoded.ts";

/** What a resumption PSK is used for (RFC 9420 section 8.4). */
export type ResumptionPskUsage = "application" | "reinit" | "branch";

/**
 * RFC 9420 section 8.4.
 *
 *   enum { reserved(0), external(1), resumption(2), (255) } PSKType;
 *   enum { reserved(0), application(1), reinit(2), branch(3), (255) } ResumptionPSKUsage;
 *   struct {
 *     PSKType psktype;
 *     select (psktype) {
 *       case external:
 *         opaque psk_id<V>;
 *       case resumption:
 *         ResumptionPSKUsage usage;
 *         opaque psk_group_id<V>;
 *         uint64 psk_epoch;
 *     };
 *     opaque psk_nonce<V>;
 *   } PreSharedKeyID;
 */
export type PreSharedKeyId =
  | { readonly kind: "external"; readonly pskId: Uint8Array; readonly pskNonce: Uint8Array }
  | {
      readonly kind: "resumption";
      readonly usage: ResumptionPskUsage;
      readonly pskGroupId: Uint8Array;
      readonly pskEpoch: bigint;
      readonly pskNonce: Uint8Array;
    };

const typeCodes = { external: 1, resumption: 2 } as const;
const usages = ["application", "reinit", "branch"] as const;

function readUsage(reader: Reader): ResumptionPskUsage {
  const usage = usages[reader.uint8() - 1];
  if (usage === undefined) throw new RejectionError("mls/decode-unknown-resumption-psk-usage");
  return usage;
}

export function readPreSharedKeyId(reader: Reader): PreSharedKeyId {
  const type = reader.uint8();
  if (type === typeCodes.external) {
    return { kind: "external", pskId: reader.bytes(), pskNonce: reader.bytes() };
  }
  if (type === typeCodes.resumption) {
    return {
      kind: "resumption",
      usage: readUsage(reader),
      pskGroupId: reader.bytes(),
      pskEpoch: reader.uint64(),
      pskNonce: reader.bytes(),
    };
  }
  throw new RejectionError("mls/decode-unknown-psk-type");
}

export function writePreSharedKeyId(writer: Writer, psk: PreSharedKeyId): void {
  writer.uint8(typeCodes[psk.kind]);
  if (psk.kind === "external") writer.bytes(psk.pskId);
  else
    writer
      .uint8(usages.indexOf(psk.usage) + 1)
      .bytes(psk.pskGroupId)
      .uint64(psk.pskEpoch);
  writer.bytes(psk.pskNonce);
}

/**
 * PSKLabel (section 8.4), the context in which PSK number `index` of `count` enters psk_secret.
 *
 *   struct {
 *     PreSharedKeyID id;
 *     uint16 index;
 *     uint16 count;
 *   } PSKLabel;
 */
export function pskLabel(id: PreSharedKeyId, index: number, count: number): Bytes {
  return encodeParts(128, (writer) => {
    writePreSharedKeyId(writer, id);
    writer.uint16(index).uint16(count);
  });
}
