/** Frames as they go over the wire, and what the WebSocket adds. */
import { type Bytes, concatBytes, submitId } from "@murmuration/base";
import { encodeClientFrame, limits } from "@murmuration/wire";
import { derived } from "../mls/key-material.ts";
import { type Account, DEVICE_ID, type Fence, REGISTRATION_ID } from "./accounts.ts";

/** Header of a WebSocket frame (RFC 6455 section 5.2); what a client sends is masked. */
export function webSocketBytes(payload: number, from: "client" | "service"): number {
  const length = payload < 126 ? 2 : payload < 65_536 ? 4 : 10;
  return payload + length + (from === "client" ? 4 : 0);
}

/** Request id of the first frame; a client's frames are numbered on. */
export const FIRST_REQUEST = 1;

export interface Addressed {
  readonly account: Account;
  readonly ciphertext: Bytes;
}

/** As many SubmitSealed frames as the limit on recipients makes necessary. `name` makes their ids differ. */
export function encodeSubmits(envelopes: readonly Addressed[], fence: Fence, name: string): Bytes[] {
  const frames: Bytes[] = [];
  for (let at = 0; at < envelopes.length; at += limits.recipientsPerSubmit) {
    const recipients = envelopes
      .slice(at, at + limits.recipientsPerSubmit)
      .map(({ account, ciphertext }) => ({
        accountId: account.accountId,
        accessKey: account.accessKey,
        devices: [{ deviceId: DEVICE_ID, registrationId: REGISTRATION_ID, ciphertext }],
      }));
    const body = {
      kind: "submitSealed",
      submitId: submitId(derived("submit", name, at).subarray(0, 16)),
      recipients,
      fence,
      ephemeral: false,
    } as const;
    frames.push(encodeClientFrame({ requestId: FIRST_REQUEST + frames.length, body }));
  }
  return frames;
}

/**
 * The frame that Murmuration does not have: one sealed sender v2 message for many recipients, with a submit id and a
 * fence as in SubmitSealed, in protobuf. Its number is none of the contract's.
 */
const MULTI_RECIPIENT_FIELD = 500;

const varint = (value: number): Bytes => {
  const bytes: number[] = [];
  let rest = value;
  for (; rest > 127; rest = Math.floor(rest / 128)) bytes.push((rest & 127) | 128);
  bytes.push(rest);
  return Uint8Array.from(bytes);
};

const field = (number: number, content: Uint8Array): Bytes =>
  concatBytes(varint(number * 8 + 2), varint(content.length), content);

export interface MultiRecipientSubmit {
  readonly requestId: number;
  readonly submitId: Bytes;
  readonly message: Bytes;
  readonly fence: Bytes;
}

export function encodeMultiRecipient(message: Uint8Array, fence: Fence, name: string): Bytes {
  const body = concatBytes(
    field(1, derived("submit", name).subarray(0, 16)),
    field(2, message),
    field(3, concatBytes(field(1, fence.groupId), field(2, fence.fence))),
  );
  return concatBytes(varint(8), varint(FIRST_REQUEST), field(MULTI_RECIPIENT_FIELD, body));
}

function readVarint(bytes: Uint8Array, at: number): [value: number, next: number] {
  let value = 0;
  let scale = 1;
  for (let i = at; i < bytes.length; i++) {
    value += (bytes[i]! & 127) * scale;
    if (bytes[i]! < 128) return [value, i + 1];
    scale *= 128;
  }
  throw new Error("a frame ends within a number");
}

function readFields(bytes: Uint8Array): Map<number, Uint8Array | number> {
  const fields = new Map<number, Uint8Array | number>();
  let at = 0;
  while (at < bytes.length) {
    const [tag, afterTag] = readVarint(bytes, at);
    const [value, afterValue] = readVarint(bytes, afterTag);
    at = afterValue;
    if (tag % 8 === 0) fields.set(tag >> 3, value);
    else {
      fields.set(tag >> 3, bytes.subarray(at, at + value));
      at += value;
    }
  }
  return fields;
}

export function decodeMultiRecipient(frame: Uint8Array): MultiRecipientSubmit {
  const outer = readFields(frame);
  const body = readFields(outer.get(MULTI_RECIPIENT_FIELD) as Uint8Array);
  const fence = readFields(body.get(3) as Uint8Array);
  return {
    requestId: outer.get(1) as number,
    submitId: (body.get(1) as Uint8Array).slice(),
    message: (body.get(2) as Uint8Array).slice(),
    fence: (fence.get(2) as Uint8Array).slice(),
  };
}
