import type { Socket, SocketHandlers, Transport } from "@murmuration/client-core";

/** What is asked, and the answer that gets lost. */
const ANSWERS = { groupCommit: "groupCommitAccepted", groupSubmit: "groupSubmitAccepted" } as const;
type Question = keyof typeof ANSWERS;

/**
 * Cuts the connection after the service has accepted something and before its client hears of it, in an answer or in
 * the log: what the service sends after the question is held back, and gone with the connection.
 */
export class LostAnswers {
  /** Accepted by the service, and never heard of. */
  lost = 0;
  private armed: Question | undefined;

  /** The next question of this kind loses its answer. */
  arm(question: Question): void {
    this.armed = question;
  }

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => {
      const cut = new Cut(handlers, () => this.lost++);
      return cut.wrap(await transport.connect(cut.handlers, timeoutMs), (kind) => {
        if (kind !== this.armed) return undefined;
        this.armed = undefined;
        return ANSWERS[kind as Question];
      });
    },
    request: (request) => transport.request(request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });
}

class Cut {
  private readonly real: SocketHandlers;
  private readonly onLost: () => void;
  private waitsFor: string | undefined;
  private socket: Socket | undefined;

  constructor(real: SocketHandlers, onLost: () => void) {
    this.real = real;
    this.onLost = onLost;
  }

  readonly handlers: SocketHandlers = {
    frame: (frame) => {
      if (this.waitsFor === undefined) this.real.frame(frame);
      else if (frame.body.kind === this.waitsFor) {
        this.onLost();
        this.socket?.close();
        this.real.closed();
      }
    },
    closed: () => this.real.closed(),
  };

  wrap(socket: Socket, answerOf: (kind: string) => string | undefined): Socket {
    this.socket = socket;
    return {
      send: (frame) => {
        this.waitsFor ??= answerOf(frame.body.kind);
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
