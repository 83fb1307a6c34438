import type { Socket, SocketHandlers, Transport } from "@murmuration/client-core";

/** A commit between its way to the service and the answer. Times are milliseconds since 1970. */
export interface CommitUnderWay {
  readonly sentAtMs: number;
  /** When the answer came or the connection broke; undefined: neither has happened yet. */
  endedAtMs: number | undefined;
  answered: boolean;
}

/** Stands between clients and their sockets and notes how long each of their commits is under way. */
export class CommitWatch {
  readonly commits: CommitUnderWay[] = [];
  /** Is called when a commit was handed to a socket. */
  onSent: () => void = () => undefined;

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: (handlers, timeoutMs) => this.connect(transport, handlers, timeoutMs),
    request: (request) => transport.request(request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });

  private async connect(transport: Transport, handlers: SocketHandlers, timeoutMs: number): Promise<Socket> {
    const waiting = new Map<number, CommitUnderWay>();
    const end = (requestId: number, answered: boolean) => {
      const commit = waiting.get(requestId);
      if (commit === undefined) return;
      waiting.delete(requestId);
      commit.endedAtMs = Date.now();
      commit.answered = answered;
    };
    const watched: SocketHandlers = {
      frame: (frame) => {
        end(frame.requestId, true);
        handlers.frame(frame);
      },
      closed: () => {
        for (const requestId of waiting.keys()) end(requestId, false);
        handlers.closed();
      },
    };
    const socket = await transport.connect(watched, timeoutMs);
    return {
      send: (frame) => {
        socket.send(frame);
        if (frame.body.kind !== "groupCommit") return;
        const commit = { sentAtMs: Date.now(), endedAtMs: undefined, answered: false };
        waiting.set(frame.requestId, commit);
        this.commits.push(commit);
        this.onSent();
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
