/** The service's part in a group record: one compare-and-set, then one reading for each member. */
import { type Bytes, groupId } from "@murmuration/base";
import type { ServiceContext } from "@murmuration/delivery-service/bench";
import {
  decodeMessage,
  encodeMessage,
  groupRecord,
  groupWriteReply,
  groupWriteRequest,
} from "@murmuration/wire";
import { cpuSince } from "../worker-link.ts";
import { loadFile, saveFile } from "./files.ts";
import type { RecordTask, WrittenRecord } from "./records.ts";

export interface RecordServiceResult {
  readonly cpuUs: number;
  readonly answerBytes: number;
  /** Bytes of the record as the store holds it. */
  readonly storedBytes: number;
  /** To one reader. */
  readonly readBytes: number;
}

/** Without the HTTP server and the check of the signed challenge, about two signature verifications. */
export async function storeRecord(context: ServiceContext, task: RecordTask): Promise<RecordServiceResult> {
  const written = loadFile<WrittenRecord>(task.frames);
  const id = groupId(written.groupId);
  const { groupRecords } = context.stores;
  const before = process.cpuUsage();
  const request = decodeMessage(groupWriteRequest, written.body, context.limits.groupRecordBytes + 1024);
  const known = await groupRecords.load(id);
  const generation = request.generation ?? known!;
  const record = {
    groupId: id,
    revision: written.revision,
    blob: request.blob,
    accessPublicKey: generation.accessPublicKey,
    fence: generation.fence,
    lastUsedDay: 0,
    migration: undefined,
  };
  const outcome =
    known === undefined
      ? await groupRecords.create(record)
      : await groupRecords.compareAndSet(record, { kind: "keep" });
  if (outcome !== "created" && outcome !== "stored")
    throw new Error(`the record was not stored but ${outcome}`);
  const answer = encodeMessage(groupWriteReply, { revision: written.revision });
  let reply: Bytes = new Uint8Array();
  for (let reader = 0; reader < task.readers; reader++) {
    const { blob, revision } = (await groupRecords.load(id))!;
    reply = encodeMessage(groupRecord, { blob, revision });
  }
  const cpuUs = cpuSince(before);
  saveFile(task.delivered, record.blob);
  // Keys, id and numbers beside the blob: 16 + 32 + 16 bytes and three of eight.
  return { cpuUs, answerBytes: answer.length, storedBytes: record.blob.length + 88, readBytes: reply.length };
}
