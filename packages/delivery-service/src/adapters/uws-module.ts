/**
 * What is used of uWebSockets.js 20.5x, in our own words, so that it need not be installed for the types. A response
 * and a socket are pointers into C++: touched after their end they throw, and a response that was left without
 * `onAborted` ends the process.
 */

/** Valid until `onAborted` is called, or an answer was ended. */
export interface UwsResponse {
  onAborted(run: () => void): void;
  /** `chunk` is valid during the call only. Called at least once, also where there is no body. */
  onData(run: (chunk: ArrayBuffer, isLast: boolean) => void): void;
  /** `offset` counts bytes of the body that are on their way. Returns false to be called again. */
  onWritable(run: (offset: number) => boolean): void;
  /** Stops reading and writing. */
  pause(): void;
  resume(): void;
  /** Everything written in `run` leaves in as few packets as it can. */
  cork(run: () => void): void;
  writeStatus(status: string): void;
  writeHeader(name: string, value: string): void;
  /** Copies what the peer does not take yet. */
  end(body: Uint8Array | string, closeConnection?: boolean): void;
  /** Without an argument also without a content-length. */
  endWithoutBody(contentLength?: number, closeConnection?: boolean): void;
  /** Takes as much as the peer does. Returns whether that was all, and whether the answer is complete now. */
  tryEnd(piece: Uint8Array, totalLength: number): [taken: boolean, complete: boolean];
  /** Cuts the connection; `onAborted` runs inside the call. */
  close(): void;
  /** 4 or 16 bytes. */
  getRemoteAddress(): ArrayBuffer;
  upgrade<T extends object>(
    userData: T,
    key: string,
    protocol: string,
    extensions: string,
    context: UwsUpgradeContext,
  ): void;
}

/** Valid during the call that it was handed to. */
export interface UwsRequest {
  getCaseSensitiveMethod(): string;
  /** The path as sent, without the query. */
  getUrl(): string;
  getQuery(): string | undefined;
  /** "" when absent. */
  getHeader(lowerCaseName: string): string;
  forEach(run: (lowerCaseName: string, value: string) => void): void;
}

declare const opaque: unique symbol;
export interface UwsUpgradeContext {
  readonly [opaque]: "upgrade";
}
interface UwsListenSocket {
  readonly [opaque]: "listen";
}

/** Valid until the `close` callback. `end` and `close` run it inside the call. */
export interface UwsSocket<T extends object> {
  getUserData(): T;
  /** Bytes that the operating system has not taken yet. */
  getBufferedAmount(): number;
  send(frame: Uint8Array, isBinary: boolean): number;
  ping(): number;
  /** Sends a close frame behind what is buffered, then FIN; waits at most eight seconds for the peer's. */
  end(code: number, reason: string): void;
  close(): void;
}

export interface UwsBehavior<T extends object> {
  readonly maxPayloadLength: number;
  /** Bytes above which frames are dropped; 0 for never. */
  readonly maxBackpressure: number;
  /** Seconds; 0 for never. */
  readonly idleTimeout: number;
  readonly sendPingsAutomatically: boolean;
  upgrade(response: UwsResponse, request: UwsRequest, context: UwsUpgradeContext): void;
  open(socket: UwsSocket<T>): void;
  /** `message` is valid during the call only. */
  message(socket: UwsSocket<T>, message: ArrayBuffer, isBinary: boolean): void;
  /** Some of what was buffered is on its way. */
  drain(socket: UwsSocket<T>): void;
  ping(socket: UwsSocket<T>): void;
  pong(socket: UwsSocket<T>): void;
  /** 1006 with a sentence of uWebSockets when it, or {@link UwsSocket.close}, cut the connection. */
  close(socket: UwsSocket<T>, code: number, message: ArrayBuffer): void;
}

export interface UwsApp {
  /** `change` is 1 for a new TCP connection and -1 for one that ended; one that was upgraded ends in `close`. */
  filter(run: (response: UwsResponse, change: number) => void): void;
  ws<T extends object>(pattern: string, behavior: UwsBehavior<T>): void;
  any(pattern: string, run: (response: UwsResponse, request: UwsRequest) => void): void;
  listen(host: string, port: number, options: number, run: (socket: UwsListenSocket | false) => void): void;
  /** Cuts every connection and stops to listen. */
  close(): void;
}

export interface UwsModule {
  App(): UwsApp;
  /** Without it, two processes may listen on one port. */
  readonly LIBUS_LISTEN_EXCLUSIVE_PORT: number;
  us_listen_socket_close(socket: UwsListenSocket): void;
  us_socket_local_port(socket: UwsListenSocket): number;
}

/** A variable: nothing that reads import statements shall take it for a dependency. */
const NAME = "uWebSockets.js";

/** uWebSockets.js, or undefined where it is not installed or its binary does not load. */
export async function loadUws(): Promise<UwsModule | undefined> {
  try {
    const loaded = (await import(NAME)) as { readonly default: UwsModule };
    return loaded.default;
  } catch {
    return undefined;
  }
}
