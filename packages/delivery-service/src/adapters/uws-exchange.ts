import { STATUS_CODES } from "node:http";
import { type Bytes, concatBytes, RejectionError, UnavailableError } from "@murmuration/base";
import type { HttpRequest, HttpResponse } from "../ports/socket-server.ts";
import { addressText, clientAddress } from "./remote-address.ts";
import type { UwsRequest, UwsResponse } from "./uws-module.ts";

/** A piece of an answer that the peer has not taken whole. */
interface Unsent {
  readonly piece: Uint8Array;
  /** Bytes of the body before it. */
  readonly before: number;
  readonly total: number;
  settle(error?: Error): void;
}

export interface ExchangeOptions {
  readonly bodyTimeoutMs: number;
  readonly trustedProxies: number;
}

/**
 * One HTTP request and its answer. uWebSockets takes the response back without a word, on an abort and at the end of
 * an answer: `response` is undefined from then on, and is looked at anew after every wait.
 */
export class UwsExchange {
  private response: UwsResponse | undefined;
  private readonly options: ExchangeOptions;
  private readonly method: string;
  /** Pieces of the body that came and were not asked for yet. */
  private readonly arrived: Bytes[] = [];
  /** The whole body has come. */
  private complete: boolean;
  private answering = false;
  private paused = false;
  private wakeReader: (() => void) | undefined;
  private unsent: Unsent | undefined;
  readonly request: HttpRequest;

  constructor(response: UwsResponse, request: UwsRequest, options: ExchangeOptions) {
    this.response = response;
    this.options = options;
    const headers = new Map<string, string>();
    request.forEach((name, value) => {
      const before = headers.get(name);
      headers.set(name, before === undefined ? value : `${before}, ${value}`);
    });
    this.method = request.getCaseSensitiveMethod();
    this.complete = !headers.has("transfer-encoding") && Number(headers.get("content-length") ?? 0) === 0;
    response.onAborted(() => this.gone());
    response.onData((chunk, isLast) => this.take(chunk, isLast));
    response.onWritable((offset) => this.writable(offset));
    this.request = {
      method: this.method,
      path: request.getUrl(),
      query: new URLSearchParams(request.getQuery() ?? ""),
      remoteAddress: remoteAddressOf(response, request, options.trustedProxies),
      header: (name) => headers.get(name),
      body: (maxBytes) => this.body(maxBytes),
      pieces: (maxBytes) => this.pieces(maxBytes),
    };
  }

  /** Sends the answer at the pace of the peer. `last`: no further request is served on this connection. Never rejects. */
  async answer({ status, headers, body }: HttpResponse, last: boolean): Promise<void> {
    const { response } = this;
    if (response === undefined) return;
    this.answering = true;
    const close = last || !this.complete;
    // The last piece may have come with one that stopped the reading; the next request shall be read.
    if (this.complete) this.resume();
    const whole = body instanceof Uint8Array;
    response.cork(() => {
      response.writeStatus(`${status} ${STATUS_CODES[status] ?? "Unknown"}`);
      for (const [name, value] of Object.entries(headers)) response.writeHeader(name, value);
      if (this.method === "HEAD") this.ended(() => response.endWithoutBody(body.length, close));
      else if (status === 204 && !close) this.ended(() => response.endWithoutBody());
      else if (whole && (close || body.length === 0)) this.ended(() => response.end(body, close));
      // uWebSockets closes nothing after an answer in pieces: a peer that does not either has ten seconds.
      else if (close) response.writeHeader("Connection", "close");
    });
    if (this.response === undefined) return;
    try {
      let sent = 0;
      for await (const piece of whole ? [body] : body.pieces) {
        if (piece.length > 0) await this.send(piece, sent, body.length);
        sent += piece.length;
        if (this.response === undefined) return;
      }
      // Fewer bytes than were announced.
      this.cut();
    } catch {
      this.cut();
    }
  }

  /** Resolves when the peer has taken the piece; rejects when it is gone or takes too long. */
  private send(piece: Uint8Array, before: number, total: number): Promise<void> {
    const { response } = this;
    if (response === undefined) return Promise.reject(new UnavailableError("http/peer-gone"));
    let [taken, complete] = [false, false];
    response.cork(() => {
      [taken, complete] = response.tryEnd(piece, total);
    });
    if (complete) this.response = undefined;
    if (taken || complete) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.cut(), this.options.bodyTimeoutMs);
      const settle = (error?: Error) => {
        clearTimeout(timer);
        this.unsent = undefined;
        if (error === undefined) resolve();
        else reject(error);
      };
      this.unsent = { piece, before, total, settle };
    });
  }

  private writable(offset: number): boolean {
    const { response, unsent } = this;
    if (response === undefined || unsent === undefined) return true;
    const rest = unsent.piece.subarray(offset - unsent.before);
    // An attempt with nothing would be taken for the end of the answer.
    const [taken, complete] = rest.length === 0 ? [true, false] : response.tryEnd(rest, unsent.total);
    if (complete) this.response = undefined;
    if (taken || complete) unsent.settle();
    return taken;
  }

  private take(chunk: ArrayBuffer, isLast: boolean): void {
    if (isLast) this.complete = true;
    // A pause would stop the answer as well.
    if (this.answering) return;
    if (chunk.byteLength > 0) this.arrived.push(new Uint8Array(chunk.slice(0)));
    // Also when somebody waits: reading on sets back the ten seconds in which uWebSockets wants 160 KB.
    if (!isLast) this.pause();
    this.wakeReader?.();
  }

  private pause(): void {
    if (this.paused) return;
    this.paused = true;
    this.response?.pause();
  }

  /** uWebSockets stops reading for good where a response is resumed that was not paused. */
  private resume(): void {
    if (!this.paused) return;
    this.paused = false;
    this.response?.resume();
  }

  private gone(): void {
    this.response = undefined;
    this.wakeReader?.();
    this.unsent?.settle(new UnavailableError("http/peer-gone"));
  }

  private cut(): void {
    this.response?.close();
  }

  /** Runs what ends the answer: the response is gone with it. */
  private ended(end: () => void): void {
    this.response = undefined;
    end();
  }

  private async body(maxBytes: number): Promise<Bytes> {
    const parts: Uint8Array[] = [];
    const timer = setTimeout(() => this.cut(), this.options.bodyTimeoutMs);
    try {
      for await (const part of this.pieces(maxBytes)) parts.push(part);
    } finally {
      clearTimeout(timer);
    }
    return concatBytes(...parts);
  }

  private async *pieces(maxBytes: number): AsyncIterable<Uint8Array> {
    let length = 0;
    for (;;) {
      const piece = this.arrived.shift() ?? (await this.nextPiece());
      if (piece === undefined) return;
      length += piece.length;
      if (length > maxBytes) throw new RejectionError("wire/too-large");
      yield piece;
    }
  }

  /** The next piece that comes; undefined at the end of the body. */
  private async nextPiece(): Promise<Bytes | undefined> {
    const timer = setTimeout(() => this.cut(), this.options.bodyTimeoutMs);
    try {
      while (this.arrived.length === 0 && !this.complete) {
        if (this.response === undefined) throw new RejectionError("http/body-incomplete");
        const woken = new Promise<void>((resolve) => {
          this.wakeReader = resolve;
        });
        this.resume();
        await woken;
      }
      return this.arrived.shift();
    } finally {
      clearTimeout(timer);
      this.wakeReader = undefined;
    }
  }
}

/** Of a request before its handler returns. */
export function remoteAddressOf(response: UwsResponse, request: UwsRequest, trustedProxies: number): string {
  const direct = addressText(new Uint8Array(response.getRemoteAddress()));
  const forwarded: string[] = [];
  request.forEach((name, value) => {
    if (name === "x-forwarded-for") forwarded.push(value);
  });
  return clientAddress(direct, forwarded.join(), trustedProxies);
}
