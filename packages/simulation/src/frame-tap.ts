import type { Socket, Transport } from "@murmuration/client-core";
import type { ClientFrame } from "@murmuration/wire";

/** Keeps every frame that a client sends: what the service gets to see over sockets. */
export class FrameTap {
  readonly sent: ClientFrame["body"][] = [];

  wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => this.wrapSocket(await transport.connect(handlers, timeoutMs)),
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
        this.sent.push(frame.body);
        socket.send(frame);
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
