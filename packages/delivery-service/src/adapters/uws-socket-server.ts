import { type Bytes, UnavailableError } from "@murmuration/base";
import type {
  CloseCause,
  Connection,
  ConnectionHandler,
  SocketServer,
  SocketServerHandlers,
  SocketServerOptions,
  UpgradeRefusal,
} from "../ports/socket-server.ts";
import { remoteAddressOf, UwsExchange } from "./uws-exchange.ts";
import type {
  UwsApp,
  UwsModule,
  UwsRequest,
  UwsResponse,
  UwsSocket,
  UwsUpgradeContext,
} from "./uws-module.ts";

/** How long what is buffered may hold up a close frame. */
const CLOSE_GRACE_MS = 1_000;
/** Behind this much a close frame is sent at once. */
const SHORT_BACKLOG_BYTES = 65_536;
/** uWebSockets waits for the FIN of a peer that was told goodbye, and does not say when it has come. */
const FIN_WAIT_MS = 8_000;
/** Code of a connection that was cut; no peer can send it (RFC 6455 section 7.4.1). */
const CUT = 1006;
const TRY_AGAIN_LATER = 1013;
/** Frames of the greatest length that wait here for a reader that does not read. */
const UNREAD_FRAMES = 2;
/** What a frame costs here beyond its bytes. */
const FRAME_OVERHEAD_BYTES = 256;

const EMPTY = new Uint8Array(0);
const NOT_FOUND: UpgradeRefusal = { status: 404, headers: {}, body: EMPTY };
const NO_WEBSOCKET: UpgradeRefusal = { status: 400, headers: {}, body: EMPTY };
const OTHER_VERSION: UpgradeRefusal = {
  status: 426,
  headers: { "sec-websocket-version": "13" },
  body: EMPTY,
};

/** What uWebSockets keeps for us beside a socket. */
interface Slot {
  readonly remoteAddress: string;
  connection?: UwsConnection;
}

/**
 * {@link SocketServer} on uWebSockets.js, which shows whole frames only and cannot stop reading a WebSocket. So, other
 * than on ws: a frame that is not complete is bounded by `maxFrameBytes` alone, the first one too, and by no time when
 * its sender cuts it into fragments and answers pings; while nothing is read, frames wait here, and who sends more than
 * two of the greatest length is sent away with 1013; an oversize frame cuts the connection without a close frame.
 * Headers have ten seconds, and so has every silence within a body or an answer, where the options allow for more.
 */
export class UwsSocketServer implements SocketServer {
  private readonly uws: UwsModule;
  private readonly connections = new Set<UwsConnection>();
  private app: UwsApp | undefined;
  private stopListening: (() => void) | undefined;
  private stopping = false;
  private pinger: NodeJS.Timeout | undefined;
  /** TCP connections, with those that may still be there. */
  private open = 0;

  constructor(uws: UwsModule) {
    this.uws = uws;
  }

  async listen(options: SocketServerOptions, handlers: SocketServerHandlers): Promise<number> {
    const { uws } = this;
    const app = uws.App();
    this.app = app;
    const count = (response: UwsResponse, change: number): void => {
      this.open += change;
      if (change > 0 && this.open > options.maxConnections) response.close();
    };
    app.filter(count);
    app.any("/*", (response, request) => this.respond(response, request, options, handlers));
    app.ws<Slot>("/*", {
      maxPayloadLength: options.maxFrameBytes,
      // The reader of bufferedBytes() decides when it is too much.
      maxBackpressure: 0,
      idleTimeout: 0,
      sendPingsAutomatically: false,
      upgrade: (response, request, context) => this.upgrade(response, request, context, options, handlers),
      open: (socket) => {
        const slot = socket.getUserData();
        const connection = new UwsConnection(
          socket,
          slot.remoteAddress,
          UNREAD_FRAMES * options.maxFrameBytes,
        );
        slot.connection = connection;
        this.connections.add(connection);
        connection.serve(handlers.opened(connection));
      },
      message: (socket, message, isBinary) => socket.getUserData().connection?.received(message, isBinary),
      drain: (socket) => socket.getUserData().connection?.drained(),
      ping: (socket) => socket.getUserData().connection?.heard(),
      pong: (socket) => socket.getUserData().connection?.heard(),
      close: (socket, code, message) => {
        const { connection } = socket.getUserData();
        if (connection === undefined) return;
        this.connections.delete(connection);
        if (code === CUT) this.open--;
        else setTimeout(() => this.open--, FIN_WAIT_MS).unref();
        connection.ended(code, new TextDecoder().decode(message));
      },
    });
    this.pinger = setInterval(() => {
      for (const connection of this.connections) connection.checkAlive(options.pingTimeoutMs);
    }, options.pingIntervalMs);
    this.pinger.unref();
    return new Promise((resolve, reject) => {
      app.listen(options.host, options.port, uws.LIBUS_LISTEN_EXCLUSIVE_PORT, (socket) => {
        if (socket === false) {
          reject(new UnavailableError("server/cannot-listen"));
          return;
        }
        this.stopListening = () => uws.us_listen_socket_close(socket);
        resolve(uws.us_socket_local_port(socket));
      });
    });
  }

  async stopAccepting(): Promise<void> {
    this.stopping = true;
    this.stopListening?.();
    this.stopListening = undefined;
  }

  async close(): Promise<void> {
    await this.stopAccepting();
    clearInterval(this.pinger);
    for (const connection of this.connections) connection.terminate();
    this.app?.close();
    this.app = undefined;
  }

  private respond(
    response: UwsResponse,
    request: UwsRequest,
    options: SocketServerOptions,
    handlers: SocketServerHandlers,
  ): void {
    if (this.stopping) response.close();
    // An upgrade that is none for uWebSockets.
    else if (request.getHeader("upgrade") !== "") refuse(response, NOT_FOUND);
    else {
      const exchange = new UwsExchange(response, request, options);
      void handlers.request(exchange.request).then((answer) => exchange.answer(answer, this.stopping));
    }
  }

  private upgrade(
    response: UwsResponse,
    request: UwsRequest,
    context: UwsUpgradeContext,
    options: SocketServerOptions,
    handlers: SocketServerHandlers,
  ): void {
    if (this.stopping) {
      response.close();
      return;
    }
    const remoteAddress = remoteAddressOf(response, request, options.trustedProxies);
    const refusal = refusalOf(request, options.socketPath) ?? handlers.admit(remoteAddress);
    if (refusal !== undefined) {
      refuse(response, refusal);
      return;
    }
    const slot: Slot = { remoteAddress };
    response.upgrade(slot, request.getHeader("sec-websocket-key"), "", "", context);
  }
}

function refusalOf(request: UwsRequest, socketPath: string): UpgradeRefusal | undefined {
  if (request.getUrl() !== socketPath) return NOT_FOUND;
  if (request.getHeader("upgrade").toLowerCase() !== "websocket") return NO_WEBSOCKET;
  return request.getHeader("sec-websocket-version") === "13" ? undefined : OTHER_VERSION;
}

function refuse(response: UwsResponse, { status, headers, body }: UpgradeRefusal): void {
  response.cork(() => {
    response.writeStatus(`${status} Refused`);
    for (const [name, value] of Object.entries(headers)) response.writeHeader(name, value);
    response.end(body, true);
  });
}

class UwsConnection implements Connection {
  readonly remoteAddress: string;
  /** Undefined once it has ended: uWebSockets throws when one is touched after that. */
  private socket: UwsSocket<Slot> | undefined;
  private handler: ConnectionHandler | undefined;
  private readonly maxUnreadBytes: number;
  /** Frames that came while nothing was read; undefined is a text frame. */
  private readonly unread: (Bytes | undefined)[] = [];
  private unreadBytes = 0;
  private reading = true;
  private delivering = false;
  private lastHeardAt = performance.now();
  private cause: CloseCause | undefined;
  private goodbye: { readonly code: number; readonly reason: string } | undefined;
  private goodbyeTimer: NodeJS.Timeout | undefined;

  constructor(socket: UwsSocket<Slot>, remoteAddress: string, maxUnreadBytes: number) {
    this.socket = socket;
    this.remoteAddress = remoteAddress;
    this.maxUnreadBytes = maxUnreadBytes;
  }

  serve(handler: ConnectionHandler): void {
    this.handler = handler;
  }

  received(message: ArrayBuffer, isBinary: boolean): void {
    this.heard();
    if (this.goodbye !== undefined) return;
    const frame = isBinary ? new Uint8Array(message.slice(0)) : undefined;
    this.unread.push(frame);
    this.unreadBytes += costOf(frame);
    this.deliver();
    if (this.unreadBytes > this.maxUnreadBytes) this.close(TRY_AGAIN_LATER, "");
  }

  heard(): void {
    this.lastHeardAt = performance.now();
  }

  drained(): void {
    const buffered = this.bufferedBytes();
    if (this.goodbye !== undefined && buffered <= SHORT_BACKLOG_BYTES) this.sayGoodbye();
    else if (buffered === 0) this.handler?.drained();
  }

  /** uWebSockets is done with the socket. */
  ended(code: number, sentence: string): void {
    this.socket = undefined;
    clearTimeout(this.goodbyeTimer);
    const cause = this.cause ?? (code === CUT ? causeOf(sentence) : "peer");
    // close() and terminate() end here before they return; who calls them is not called back from inside.
    queueMicrotask(() => this.handler?.closed(cause));
  }

  /** Cuts a connection that was silent for too long; pings any other. */
  checkAlive(pingTimeoutMs: number): void {
    if (performance.now() - this.lastHeardAt > pingTimeoutMs) {
      this.cause ??= "silent";
      this.socket?.close();
    } else {
      this.socket?.ping();
    }
  }

  bufferedBytes(): number {
    return this.socket?.getBufferedAmount() ?? 0;
  }

  send(frame: Uint8Array): void {
    if (this.goodbye === undefined) this.socket?.send(frame, true);
  }

  setReading(reading: boolean): void {
    this.reading = reading;
    this.deliver();
  }

  close(code: number, reason: string): void {
    if (this.goodbye !== undefined) return;
    this.cause ??= "server";
    this.goodbye = { code, reason };
    this.unread.length = 0;
    // After end() there is no way to cut the connection: what is buffered has to go first.
    if (this.bufferedBytes() <= SHORT_BACKLOG_BYTES) this.sayGoodbye();
    else this.goodbyeTimer = setTimeout(() => this.terminate(), CLOSE_GRACE_MS).unref();
  }

  terminate(): void {
    this.cause ??= "server";
    this.socket?.close();
  }

  private sayGoodbye(): void {
    if (this.goodbye !== undefined) this.socket?.end(this.goodbye.code, this.goodbye.reason);
  }

  /** Hands over what waits, for as long as the reader reads. It may say so, or not any more, from inside the call. */
  private deliver(): void {
    if (this.delivering) return;
    this.delivering = true;
    while (this.reading && this.socket !== undefined && this.unread.length > 0) {
      const frame = this.unread.shift();
      this.unreadBytes -= costOf(frame);
      if (frame === undefined) this.handler?.receivedText();
      else this.handler?.received(frame);
    }
    this.delivering = false;
  }
}

function costOf(frame: Bytes | undefined): number {
  return FRAME_OVERHEAD_BYTES + (frame?.length ?? 0);
}

/** uWebSockets says in words why it cut a connection. */
function causeOf(sentence: string): CloseCause {
  if (sentence.startsWith("Received too big message")) return "oversize-frame";
  return sentence.startsWith("Received invalid") ? "protocol-error" : "peer";
}
