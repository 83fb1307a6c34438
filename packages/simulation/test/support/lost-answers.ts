import type { Socket, SocketHandlers, Transport } from "@murmuration/client-core";
import type { ServiceFrame } from "@murmuration/wire";

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
  /** Asked once more after that. */
  askedAgain = 0;
  private armed: Question | undefined;
  private again: Question | undefined;

  /**
   * The next question of this kind loses its answer. With `logWaits` the log is held back, too, on the next connection
   * until the question was asked once more: otherwise the log may answer it first.
   */
  arm(question: Question, { logWaits = false } = {}): void {
    this.armed = question;
    this.again = logWaits ? question : undefined;
  }

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => {
      const cut = new Cut(this, handlers);
      return cut.wrap(await transport.connect(cut.handlers, timeoutMs));
    },
    request: (request) => transport.request(request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });

  /** The log is held back on connections that come now. */
  get logWaits(): boolean {
    return this.lost > 0 && this.again !== undefined;
  }

  /** A question goes out. Returns the answer that must not arrive. */
  asked(kind: string): string | undefined {
    if (kind === this.armed) {
      this.armed = undefined;
      return ANSWERS[kind as Question];
    }
    if (this.lost > 0 && kind === this.again) {
      this.again = undefined;
      this.askedAgain++;
    }
    return undefined;
  }
}

class Cut {
  private readonly owner: LostAnswers;
  private readonly real: SocketHandlers;
  private waitsFor: string | undefined;
  private socket: Socket | undefined;
  private readonly log: ServiceFrame[] = [];

  constructor(owner: LostAnswers, real: SocketHandlers) {
    this.owner = owner;
    this.real = real;
  }

  readonly handlers: SocketHandlers = {
    frame: (frame) => {
      if (this.waitsFor !== undefined) {
        if (frame.body.kind === this.waitsFor) this.cut();
      } else if (this.owner.logWaits && frame.body.kind === "groupEntries") this.log.push(frame);
      else this.real.frame(frame);
    },
    closed: () => this.real.closed(),
  };

  private cut(): void {
    this.owner.lost++;
    this.socket?.close();
    this.real.closed();
  }

  wrap(socket: Socket): Socket {
    this.socket = socket;
    return {
      send: (frame) => {
        this.waitsFor ??= this.owner.asked(frame.body.kind);
        socket.send(frame);
        if (!this.owner.logWaits) for (const page of this.log.splice(0)) this.real.frame(page);
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
