import type { Bytes } from "@murmuration/base";
import type { ClientFrame, ServiceFrame } from "@murmuration/wire";

/** One open socket to the service. Frames arrive in order; `closed` is called once and is the last call. */
export interface Socket {
  /** Hands a frame to the network. Nothing is known of its arrival. Ignored once closed. */
  send(frame: ClientFrame): void;
  /** Ends the connection at once. */
  close(): void;
  /** Bytes handed over so far, both directions: for measurements. */
  readonly bytesSent: number;
  readonly bytesReceived: number;
}

export interface SocketHandlers {
  frame(frame: ServiceFrame): void;
  closed(): void;
}

/** A request outside the socket. The body and reply are bytes: protobuf, or an attachment. */
export interface HttpRequest {
  readonly method: string;
  /** Path with its leading slash, from the route table of @murmuration/wire. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Bytes;
  readonly maxReplyBytes: number;
  readonly timeoutMs: number;
}

export interface HttpReply {
  readonly status: number;
  readonly body: Bytes;
}

/**
 * The network. Both reject with UnavailableError `transport/unreachable` when the service cannot be reached or
 * does not answer in time.
 */
export interface Transport {
  /** Scheme, host and port of the service: what invite links begin with. */
  readonly origin: string;
  /** Opens a WebSocket; the caller says Hello. */
  connect(handlers: SocketHandlers, timeoutMs: number): Promise<Socket>;
  request(request: HttpRequest): Promise<HttpReply>;
  /** The reply's body as it comes, for attachments; breaks off where the consumer stops. */
  stream(request: HttpRequest): Promise<{ readonly status: number; readonly body: AsyncIterable<Bytes> }>;
  /** Bytes sent and received over connections of this transport that are closed or open. */
  readonly traffic: { readonly sent: number; readonly received: number };
  /** Ends everything that is open. */
  close(): void;
}
