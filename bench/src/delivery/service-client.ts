/** A client of the delivery service that costs little: real frames over a WebSocket of its own, no cryptography. */
import type { Bytes } from "@murmuration/base";
import {
  type ClientBody,
  type DeviceAuth,
  decodeServiceFrame,
  encodeClientFrame,
  protocolVersions,
  type ServiceBody,
  type ServiceFrame,
  SOCKET_PATH,
} from "@murmuration/wire";
import { LoadSocket } from "./load-socket.ts";

/** RFC 6455 section 5.2. */
const BINARY = 2;
const CLOSE = 8;
const PING = 9;
const PONG = 10;
const END_OF_HEADERS = "\r\n\r\n";
const MOST_FRAME_BYTES = 8 * 1024 * 1024;
/** Any but 0, which would spare the service the unmasking of a real client's frames. */
const MASK = Buffer.from([0x5b, 0xd1, 0xe9, 0x95]);
/** 16 bytes; the answer to them is not looked at. */
const KEY = Buffer.from("murmurationbench").toString("base64");
const UPGRADE =
  `GET ${SOCKET_PATH} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: Upgrade\r\nupgrade: websocket\r\n` +
  `sec-websocket-version: 13\r\nsec-websocket-key: ${KEY}\r\n${END_OF_HEADERS.slice(2)}`;

type BodyOf<K extends ServiceBody["kind"]> = Extract<ServiceBody, { readonly kind: K }>;

interface Waiting {
  readonly answered: (body: ServiceBody) => void;
  readonly failed: (error: Error) => void;
}

export class ServiceClient {
  /** Called with what answers nothing, in order. */
  onPush: (body: ServiceBody) => void = () => {};
  /** Called once, when the connection ended without `cut`. */
  onLost: (why: string) => void = () => {};
  /** Of the HelloReply. */
  challenge: Uint8Array = new Uint8Array(0);
  private readonly socket: LoadSocket;
  private readonly waiting = new Map<number, Waiting>();
  private upgraded: (() => void) | undefined;
  private readonly failedToOpen: (error: Error) => void;
  private lastRequestId = 0;
  private ended = false;

  private constructor(port: number, opened: () => void, failed: (error: Error) => void) {
    this.upgraded = opened;
    this.failedToOpen = failed;
    this.socket = new LoadSocket(
      port,
      (bytes) => (this.upgraded === undefined ? this.takeFrame(bytes) : this.takeUpgrade(bytes)),
      () => this.end("the connection ended"),
    );
    this.socket.write(UPGRADE);
  }

  /** Connects and says Hello; for a device's mailbox with `auth`. Rejects when the connection ends meanwhile. */
  static async open(
    port: number,
    auth?: DeviceAuth,
    prepare: (client: ServiceClient) => void = () => {},
  ): Promise<ServiceClient> {
    const client = await new Promise<ServiceClient>((resolve, reject) => {
      const made: ServiceClient = new ServiceClient(port, () => resolve(made), reject);
    });
    prepare(client);
    const versions = [...protocolVersions];
    const hello = auth === undefined ? { versions } : { versions, auth };
    const { challenge } = await client.expect({ kind: "hello", ...hello }, "helloReply");
    client.challenge = challenge;
    return client;
  }

  /** Resolves with the answer, which may be a rejection; rejects if the connection ends without one. */
  request(body: ClientBody): Promise<ServiceBody> {
    return new Promise((answered, failed) => {
      if (this.ended) {
        failed(new Error("the connection has ended"));
        return;
      }
      const requestId = ++this.lastRequestId;
      this.waiting.set(requestId, { answered, failed });
      this.send(BINARY, encodeClientFrame({ requestId, body }));
    });
  }

  /** The answer, of this kind. Rejects with what came instead. */
  async expect<K extends ServiceBody["kind"]>(body: ClientBody, kind: K): Promise<BodyOf<K>> {
    const answer = await this.request(body);
    if (answer.kind === kind) return answer as BodyOf<K>;
    const code = answer.kind === "rejection" ? ` ${answer.code}` : "";
    throw new Error(`${kind} expected for ${body.kind}, not ${answer.kind}${code}`);
  }

  /** Says something that needs no answer. */
  tell(body: ClientBody): void {
    if (!this.ended) this.send(BINARY, encodeClientFrame({ requestId: 0, body }));
  }

  cut(): void {
    this.onLost = () => {};
    this.socket.cut();
  }

  private takeUpgrade(bytes: Buffer): number {
    const end = bytes.indexOf(END_OF_HEADERS);
    if (end < 0) return 0;
    const status = bytes.subarray(0, 12).toString("latin1");
    if (status === "HTTP/1.1 101") this.upgraded?.();
    else this.end(`the upgrade was refused: ${status}`);
    this.upgraded = undefined;
    return end + END_OF_HEADERS.length;
  }

  private takeFrame(bytes: Buffer): number {
    if (bytes.length < 2) return 0;
    const short = bytes[1]! & 0x7f;
    const header = short < 126 ? 2 : short === 126 ? 4 : 10;
    if (bytes.length < header) return 0;
    const length = header === 2 ? short : header === 4 ? bytes.readUInt16BE(2) : bytes.readUInt32BE(6);
    if (bytes.length < header + length) return 0;
    const payload = bytes.subarray(header, header + length);
    const opcode = bytes[0]! & 0x0f;
    if (opcode === BINARY) this.took(decodeOnce(payload));
    else if (opcode === PING) this.send(PONG, payload);
    else if (opcode === CLOSE) this.end(`closed: ${payload.subarray(2).toString()}`);
    return header + length;
  }

  private took({ requestId, body }: ServiceFrame): void {
    const waiting = requestId === 0 ? undefined : this.waiting.get(requestId);
    if (waiting === undefined) {
      this.onPush(body);
      return;
    }
    this.waiting.delete(requestId);
    waiting.answered(body);
  }

  private send(opcode: number, payload: Uint8Array): void {
    const { length } = payload;
    const header = length < 126 ? 2 : length < 65_536 ? 4 : 10;
    const frame = Buffer.allocUnsafe(header + MASK.length + length);
    frame[0] = 0x80 | opcode;
    frame[1] = 0x80 | (header === 2 ? length : header === 4 ? 126 : 127);
    if (header === 4) frame.writeUInt16BE(length, 2);
    else if (header === 10) frame.writeBigUInt64BE(BigInt(length), 2);
    frame.set(MASK, header);
    const at = header + MASK.length;
    for (let i = 0; i < length; i++) frame[at + i] = payload[i]! ^ MASK[i & 3]!;
    this.socket.write(frame);
  }

  private end(why: string): void {
    if (this.ended) return;
    this.ended = true;
    this.socket.cut();
    this.failedToOpen(new Error(why));
    for (const { failed } of this.waiting.values()) failed(new Error(why));
    this.waiting.clear();
    this.onLost(why);
  }
}

/** What came last and answers nothing: all readers of a group get the same bytes, so one decoding does for all. */
const recent: { readonly bytes: Buffer; readonly frame: ServiceFrame }[] = [];
const MOST_RECENT = 32;
let oldest = 0;

function decodeOnce(bytes: Buffer): ServiceFrame {
  const known = recent.find((each) => each.bytes.length === bytes.length && each.bytes.equals(bytes));
  if (known !== undefined) return known.frame;
  const copy = Buffer.from(bytes);
  const frame = decodeServiceFrame(new Uint8Array(copy) as Bytes, MOST_FRAME_BYTES);
  if (frame.requestId === 0) {
    recent[oldest] = { bytes: copy, frame };
    oldest = (oldest + 1) % MOST_RECENT;
  }
  return frame;
}
