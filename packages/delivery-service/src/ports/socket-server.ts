import type { Bytes } from "@murmuration/base";

export interface HttpRequest {
  readonly method: string;
  /** Path without the query, as sent. */
  readonly path: string;
  readonly query: URLSearchParams;
  /** Lower-case names. */
  header(name: string): string | undefined;
  /** Remote address as text, after trusted proxies were taken off. */
  readonly remoteAddress: string;
  /**
   * The whole body. Rejects with RejectionError `wire/too-large` once more than `maxBytes` have come (the
   * rest is not read), and `http/body-incomplete` when the peer goes away.
   */
  body(maxBytes: number): Promise<Bytes>;
  /** The body piece by piece, at the pace of the reader. Throws like {@link body}. To be read once. */
  pieces(maxBytes: number): AsyncIterable<Uint8Array>;
}

export interface HttpResponse {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | ByteStream;
}

/** The answer to an upgrade that is refused. */
export interface UpgradeRefusal extends HttpResponse {
  readonly body: Uint8Array;
}

/** A body that is made while it is sent, at the pace of the peer. */
export interface ByteStream {
  readonly length: number;
  readonly pieces: AsyncIterable<Uint8Array>;
}

/** One WebSocket. Local to this process; it has no name outside. */
export interface Connection {
  readonly remoteAddress: string;
  /** Bytes handed to {@link send} that the operating system has not taken yet. */
  bufferedBytes(): number;
  /** Sends one binary frame. Ignored on a closed connection. */
  send(frame: Uint8Array): void;
  /** Stops reading from the peer, or reads on. What the peer sends meanwhile waits in its own buffers. */
  setReading(reading: boolean): void;
  /** Starts the closing handshake and cuts the connection if the peer does not answer within a second. */
  close(code: number, reason: string): void;
  /** Cuts the connection at once. */
  terminate(): void;
}

/** Callbacks of one connection, in the order of events; nothing comes after `closed`. */
export interface ConnectionHandler {
  /** One binary frame, no longer than the limit: an oversize one closes the connection with code 1009. */
  received(frame: Bytes): void;
  /** A text frame, whose content is dropped. */
  receivedText(): void;
  /** The send buffer has become empty. */
  drained(): void;
  /** Once, whoever closed, and also when a peer stopped answering pings. */
  closed(cause: CloseCause): void;
}

export type CloseCause = "peer" | "server" | "silent" | "oversize-frame" | "protocol-error";

export interface SocketServerHandlers {
  /** Never rejects. */
  request(request: HttpRequest): Promise<HttpResponse>;
  /** Asked before the upgrade. A refusal is answered as HTTP and costs no connection. */
  admit(remoteAddress: string): UpgradeRefusal | undefined;
  opened(connection: Connection): ConnectionHandler;
}

export interface SocketServerOptions {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  readonly socketPath: string;
  readonly maxFrameBytes: number;
  /** Before its first frame is complete a connection may send no more than this. */
  readonly maxFirstFrameBytes: number;
  /** A connection that answers no ping for this long is cut. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** TCP connections at a time; further ones are refused by closing them. */
  readonly maxConnections: number;
  /** A request whose headers have not come after this time is closed. */
  readonly headersTimeoutMs: number;
  /**
   * A body must be there after this time; one that is read in pieces may pause for as long between two. An answer
   * must have been taken, and a frame of more than 128 KiB be complete, after the same time.
   */
  readonly bodyTimeoutMs: number;
  /** Number of proxies in front whose X-Forwarded-For entries are believed. */
  readonly trustedProxies: number;
}

/**
 * HTTP requests and WebSocket connections on one port. An adapter whose engine shows whole frames only says at its
 * class which of the bounds above it cannot keep.
 */
export interface SocketServer {
  /** Starts to listen; resolves with the port. */
  listen(options: SocketServerOptions, handlers: SocketServerHandlers): Promise<number>;
  /** Stops to accept new connections and requests; those there are live on. */
  stopAccepting(): Promise<void>;
  /** Cuts everything that is left. */
  close(): Promise<void>;
}
