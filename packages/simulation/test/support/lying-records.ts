/** A way to the service on which it lies to one client about a pairwise group: its record, its fences, its MLS log. */
import type { SocketHandlers, Transport } from "@murmuration/client-core";
import {
  type ClientFrame,
  decodeMessage,
  encodeMessage,
  type GroupEntries,
  groupRecord,
  limits,
  type MessageOf,
} from "@murmuration/wire";

export type RecordReply = MessageOf<typeof groupRecord>;
type SubmitLie = "refuse" | "again" | "swallow" | "pass" | "take";
type Submit = Extract<ClientFrame["body"], { readonly kind: "submitSealed" }>;

export class LyingRecords {
  /** How often this client asked for the record, how often it got it, and when it submitted something to a group. */
  asked = 0;
  reads = 0;
  readonly submittedAtMs: number[] = [];
  /** What the service said last when it was honest. */
  last: RecordReply | undefined;
  private recordLie: ((honest: RecordReply) => RecordReply) | undefined;
  private submitLie: ((submit: Submit) => SubmitLie) | undefined;
  private logLie: ((page: GroupEntries) => boolean) | undefined;

  /** Answers another record than the one that there is. */
  lieAboutRecord(lie: ((honest: RecordReply) => RecordReply) | undefined): void {
    this.recordLie = lie;
  }

  /**
   * Of sealed submits: refused for their fence, asked for once more, said to be accepted and thrown away, taken as ever, or
   * taken whatever their fence.
   */
  lieAboutSubmits(lie: ((submit: Submit) => SubmitLie) | undefined): void {
    this.submitLie = lie;
  }

  /** Keeps everything back that its mailbox has. */
  isMailKept = false;

  /** A service that does not look at fences: what names none it takes from anybody. */
  private unfenced(frame: ClientFrame): ClientFrame {
    const { body } = frame;
    if (body.kind !== "submitSealed" || this.submitLie?.(body) !== "take") return frame;
    const { fence: _, ...rest } = body;
    return { ...frame, body: rest };
  }

  /** Keeps back each page of an MLS log for which this says so. */
  keepBackLog(lie: ((page: GroupEntries) => boolean) | undefined): void {
    this.logLie = lie;
  }

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: async (handlers: SocketHandlers, timeoutMs: number) => {
        const frame: SocketHandlers["frame"] = (received) => {
          if (received.body.kind === "groupEntries" && this.logLie?.(received.body) === true) return;
          if (received.body.kind === "deliver" && this.isMailKept) return;
          handlers.frame(received);
        };
        const socket = await transport.connect({ frame, closed: () => handlers.closed() }, timeoutMs);
        const send = (out: ClientFrame) => {
          if (!this.answers(out, handlers)) socket.send(this.unfenced(out));
        };
        return Object.assign(Object.create(socket) as typeof socket, { send, close: () => socket.close() });
      },
      request: async (request: Parameters<Transport["request"]>[0]) => {
        const isRead = request.method === "GET" && request.path.startsWith("/v1/groups/");
        if (isRead) this.asked++;
        const reply = await transport.request(request);
        if (!isRead || reply.status !== 200) return reply;
        this.reads++;
        this.last = decodeMessage(groupRecord, reply.body, limits.groupRecordBytes + 1024);
        if (this.recordLie === undefined) return reply;
        return { status: 200, body: encodeMessage(groupRecord, this.recordLie(this.last)) };
      },
      close: () => transport.close(),
    });

  /** Whether the service answers this frame by itself. */
  private answers({ requestId, body }: ClientFrame, handlers: SocketHandlers): boolean {
    if (body.kind !== "submitSealed") return false;
    if (body.fence !== undefined) this.submittedAtMs.push(performance.now());
    const lie = this.submitLie?.(body) ?? "pass";
    if (lie === "pass" || lie === "take") return false;
    const answer =
      lie === "refuse"
        ? ({ kind: "rejection", code: "submit/fence-outdated", action: "fix-and-resend" } as const)
        : lie === "again"
          ? ({ kind: "rejection", code: "http/body-incomplete", action: "retry" } as const)
          : ({ kind: "submitAccepted", serverTimeMs: Date.now(), repeatedSubmit: false } as const);
    queueMicrotask(() => handlers.frame({ requestId, body: answer }));
    return true;
  }
}
