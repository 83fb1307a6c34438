import {
  type ClientBody,
  decodeServiceFrame,
  encodeClientFrame,
  type ServiceBody,
  SOCKET_PATH,
} from "@murmuration/wire";
import { WebSocket } from "ws";
import type { TestDevice } from "./test-device.ts";

type BodyOf<K extends ServiceBody["kind"]> = Extract<ServiceBody, { kind: K }>;
type Envelopes = BodyOf<"deliver">["envelopes"];

/** How a connection ended. */
export interface Closed {
  readonly code: number;
  readonly reason: string;
}

/** A client's WebSocket in a test: requests with answers, and everything that was pushed, in order. */
export class TestSocket {
  readonly webSocket: WebSocket;
  readonly pushed: ServiceBody[] = [];
  readonly closed: Promise<Closed>;
  private readonly answers = new Map<number, (body: ServiceBody) => void>();
  private readonly watchers = new Set<() => void>();
  private lastRequestId = 0;
  /** Of the HelloReply of an anonymous connection. */
  challenge: Uint8Array = new Uint8Array(32);

  private constructor(webSocket: WebSocket) {
    this.webSocket = webSocket;
    this.closed = new Promise((resolve) => {
      webSocket.on("close", (code, reason) => {
        resolve({ code, reason: reason.toString() });
        for (const watch of this.watchers) watch();
      });
    });
    webSocket.on("error", () => {});
    webSocket.on("message", (data: Buffer) => {
      const { requestId, body } = decodeServiceFrame(new Uint8Array(data), 8 * 1024 * 1024);
      const answer = this.answers.get(requestId);
      this.answers.delete(requestId);
      if (requestId !== 0 && answer !== undefined) answer(body);
      else this.pushed.push(body);
      for (const watch of this.watchers) watch();
    });
  }

  /** Connects without saying Hello. `from` is the local address to come from. */
  static async open(port: number, from = "127.0.0.1"): Promise<TestSocket> {
    const webSocket = new WebSocket(`ws://127.0.0.1:${port}${SOCKET_PATH}`, { localAddress: from });
    const socket = new TestSocket(webSocket);
    await new Promise<void>((resolve, reject) => {
      webSocket.once("open", () => resolve());
      webSocket.once("error", reject);
    });
    return socket;
  }

  static async anonymous(port: number, from?: string): Promise<TestSocket> {
    const socket = await TestSocket.open(port, from);
    const reply = await socket.request({ kind: "hello", versions: [1] });
    if (reply.kind !== "helloReply") throw new Error(`hello refused: ${JSON.stringify(reply)}`);
    socket.challenge = reply.challenge;
    return socket;
  }

  static async device(port: number, device: TestDevice): Promise<TestSocket> {
    const socket = await TestSocket.open(port);
    const reply = await socket.request({ kind: "hello", versions: [1], auth: device.auth() });
    if (reply.kind !== "helloReply") throw new Error(`hello refused: ${JSON.stringify(reply)}`);
    return socket;
  }

  /** Resolves with the answer, which may be a rejection; rejects if the connection ends without one. */
  request(body: ClientBody): Promise<ServiceBody> {
    const requestId = ++this.lastRequestId;
    this.webSocket.send(encodeClientFrame({ requestId, body }));
    return this.answerTo(requestId);
  }

  /** The answer to a frame that was sent as raw bytes with this request id. */
  answerTo(requestId: number): Promise<ServiceBody> {
    return new Promise((resolve, reject) => {
      this.answers.set(requestId, resolve);
      void this.closed.then(({ code, reason }) => reject(new Error(`closed: ${code} ${reason}`)));
    });
  }

  sendRaw(bytes: Uint8Array): void {
    this.webSocket.send(bytes, { binary: true });
  }

  /** Waits until a pushed body of this kind is there, and takes it. */
  async next<K extends ServiceBody["kind"]>(kind: K, timeoutMs = 10_000): Promise<BodyOf<K>> {
    await this.until(() => this.pushed.some((body) => body.kind === kind), timeoutMs, `no ${kind}`);
    const index = this.pushed.findIndex((body) => body.kind === kind);
    return this.pushed.splice(index, 1)[0] as BodyOf<K>;
  }

  /** Collects pushed envelopes until there are this many. */
  async envelopes(count: number, timeoutMs = 20_000): Promise<Envelopes> {
    const delivered = () =>
      this.pushed.flatMap((body) => (body.kind === "deliver" ? [...body.envelopes] : []));
    await this.until(() => delivered().length >= count, timeoutMs, `fewer than ${count} envelopes`);
    return delivered();
  }

  until(condition: () => boolean, timeoutMs: number, complaint: string): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => finish(new Error(`${complaint} within ${timeoutMs} ms`)), timeoutMs);
      const finish = (error?: Error) => {
        clearTimeout(timer);
        this.watchers.delete(watch);
        if (error === undefined) resolve();
        else reject(error);
      };
      const watch = () => {
        if (condition()) finish();
      };
      this.watchers.add(watch);
      watch();
    });
  }

  async close(): Promise<void> {
    this.webSocket.close();
    await this.closed;
  }
}
