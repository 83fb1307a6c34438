import type { Socket, SocketHandlers, Transport } from "@murmuration/client-core";
import type { ClientFrame, ServiceFrame } from "@murmuration/wire";

/** A link that keeps a client's next frame of some kind back, and can let nothing through to the client any more. */
export class HeldFrames {
  private kind: ClientFrame["body"]["kind"] | undefined;
  private deaf = false;
  private kept: (() => void) | undefined;
  /** Frames that came while it hung, and were not heard. */
  private readonly missed = new Set<ServiceFrame["body"]["kind"]>();

  get keeps(): boolean {
    return this.kept !== undefined;
  }

  /** Keeps the next one of this kind. */
  keep(kind: ClientFrame["body"]["kind"]): void {
    this.kind = kind;
  }

  letGo(): void {
    this.kept?.();
    this.kept = undefined;
  }

  /** From here on the client hears nothing: its process may as well hang. */
  hang(): void {
    this.deaf = true;
  }

  /** Whether the service has said this to the client that hangs. */
  hasMissed(kind: ServiceFrame["body"]["kind"]): boolean {
    return this.missed.has(kind);
  }

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => {
      const hearing: SocketHandlers = {
        frame: (frame) => {
          if (this.deaf) this.missed.add(frame.body.kind);
          else handlers.frame(frame);
        },
        closed: () => handlers.closed(),
      };
      return this.wrapSocket(await transport.connect(hearing, timeoutMs));
    },
    request: (request) => transport.request(request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });

  private wrapSocket(socket: Socket): Socket {
    return {
      send: (frame) => {
        if (frame.body.kind !== this.kind) {
          socket.send(frame);
          return;
        }
        this.kind = undefined;
        this.kept = () => socket.send(frame);
      },
      close: () => socket.close(),
      get bytesSent() {
        return socket.bytesSent;
      },
      get bytesReceived() {
        return socket.bytesReceived;
      },
    };
  }
}
