/** The product's transport: `ws` for the socket, fetch for requests. */
import { type Bytes, UnavailableError, UsageError } from "@murmuration/base";
import { decodeServiceFrame, encodeClientFrame, limits, SOCKET_PATH } from "@murmuration/wire";
import WebSocket from "ws";
import type { HttpReply, HttpRequest, Socket, SocketHandlers, Transport } from "../ports/transport.ts";

/** The service at an origin such as `https://chat.example.org`. UsageError `transport/bad-url`. */
export function connectTo(origin: string): Transport {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
    throw new UsageError("transport/bad-url");
  }
  return new NetworkTransport(url);
}

const unreachable = (): UnavailableError => new UnavailableError("transport/unreachable");

class NetworkTransport implements Transport {
  readonly origin: string;
  private readonly url: URL;
  private readonly sockets = new Set<WebSocket>();
  private readonly abort = new AbortController();
  readonly traffic = { sent: 0, received: 0 };

  constructor(origin: URL) {
    this.url = origin;
    this.origin = origin.origin;
  }

  connect(handlers: SocketHandlers, timeoutMs: number): Promise<Socket> {
    const address = new URL(SOCKET_PATH, this.url);
    address.protocol = this.url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, {
      handshakeTimeout: timeoutMs,
      maxPayload: limits.frameBytes,
      perMessageDeflate: false,
    });
    socket.binaryType = "nodebuffer";
    this.sockets.add(socket);
    return new Promise((resolve, reject) => {
      let opened = false;
      const connection = new NetworkSocket(socket, this.traffic);
      socket.on("open", () => {
        opened = true;
        resolve(connection);
      });
      socket.on("message", (data: Buffer, isBinary: boolean) => connection.receive(data, isBinary, handlers));
      // An error is always followed by close.
      socket.on("error", () => undefined);
      socket.on("close", () => {
        this.sockets.delete(socket);
        if (opened) handlers.closed();
        else reject(unreachable());
      });
    });
  }

  async request(request: HttpRequest): Promise<HttpReply> {
    const { status, body } = await this.stream(request);
    const parts: Bytes[] = [];
    let length = 0;
    for await (const part of body) {
      length += part.length;
      if (length > request.maxReplyBytes) throw new UnavailableError("transport/reply-too-large");
      parts.push(part);
    }
    return { status, body: new Uint8Array(Buffer.concat(parts)) };
  }

  async stream(request: HttpRequest): Promise<{ status: number; body: AsyncIterable<Bytes> }> {
    const signal = AbortSignal.any([this.abort.signal, AbortSignal.timeout(request.timeoutMs)]);
    let response: Response;
    try {
      response = await fetch(new URL(request.path, this.url), {
        method: request.method,
        signal,
        redirect: "error",
        ...(request.headers === undefined ? {} : { headers: request.headers }),
        ...(request.body === undefined ? {} : { body: request.body }),
      });
    } catch {
      throw unreachable();
    }
    this.traffic.sent += request.body?.length ?? 0;
    return { status: response.status, body: this.chunks(response) };
  }

  private async *chunks(response: Response): AsyncIterable<Bytes> {
    if (response.body === null) return;
    const reader = response.body.getReader();
    try {
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        this.traffic.received += value.length;
        yield value as Bytes;
      }
    } catch {
      throw unreachable();
    } finally {
      await reader.cancel().catch(() => undefined);
    }
  }

  close(): void {
    this.abort.abort();
    for (const socket of this.sockets) socket.terminate();
  }
}

class NetworkSocket implements Socket {
  private readonly socket: WebSocket;
  private readonly traffic: { sent: number; received: number };
  bytesSent = 0;
  bytesReceived = 0;

  constructor(socket: WebSocket, traffic: { sent: number; received: number }) {
    this.socket = socket;
    this.traffic = traffic;
  }

  send(frame: Parameters<Socket["send"]>[0]): void {
    if (this.socket.readyState !== WebSocket.OPEN) return;
    const bytes = encodeClientFrame(frame);
    this.bytesSent += bytes.length;
    this.traffic.sent += bytes.length;
    this.socket.send(bytes);
  }

  receive(data: Buffer, isBinary: boolean, handlers: SocketHandlers): void {
    this.bytesReceived += data.length;
    this.traffic.received += data.length;
    let frame: ReturnType<typeof decodeServiceFrame>;
    try {
      if (!isBinary) throw new UnavailableError("transport/text-frame");
      frame = decodeServiceFrame(data);
    } catch {
      // A service that does not keep the contract: nothing on this connection can be trusted to be in order.
      this.socket.terminate();
      return;
    }
    handlers.frame(frame);
  }

  close(): void {
    this.socket.terminate();
  }
}
