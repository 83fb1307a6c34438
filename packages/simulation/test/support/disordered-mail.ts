/**
 * A way to the service on which one client's mail comes out of order, and some of it more than once: what waits in a moment
 * is shuffled over its numbers, and copies come then or later under numbers of their own. Nothing is kept back for good. The
 * client sees numbers without gaps, as from any service. For one connection.
 */
import type { SocketHandlers, Transport } from "@murmuration/client-core";
import type { ClientFrame, Deliver, ServiceFrame } from "@murmuration/wire";
import type { SeededRandom } from "../../src/index.ts";

type Envelope = Deliver["envelopes"][number];
type Id = Envelope["envelopeId"];

const LONGEST_WAIT_MS = 150;
const MOST_COPIES = 3;

export class DisorderedMail {
  /** Envelopes that came behind one that was sent later; copies that came besides. */
  reordered = 0;
  doubled = 0;
  private readonly random: SeededRandom;
  /** For each number that the client has seen, without gaps from 1 on, the service's own that is settled with it. */
  private readonly real: Id[] = [];
  private waiting: Envelope[] = [];
  private copies: Envelope[] = [];
  private marks: Pick<Deliver, "storeMark"> = {};
  private timer: NodeJS.Timeout | undefined;

  constructor(random: SeededRandom) {
    this.random = random;
  }

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: async (handlers: SocketHandlers, timeoutMs: number) => {
        const heard: SocketHandlers = {
          frame: (frame) => this.hear(frame, handlers),
          closed: () => handlers.closed(),
        };
        const socket = await transport.connect(heard, timeoutMs);
        const send = (frame: ClientFrame) => socket.send(this.withRealNumber(frame));
        return Object.assign(Object.create(socket) as typeof socket, { send, close: () => socket.close() });
      },
      close: () => transport.close(),
    });

  private hear(frame: ServiceFrame, handlers: SocketHandlers): void {
    const { body } = frame;
    if (body.kind === "deliver" && body.envelopes.every(({ envelopeId }) => envelopeId > 0)) {
      this.waiting.push(...body.envelopes);
      if (body.storeMark !== undefined) this.marks = { storeMark: body.storeMark };
      this.timer ??= setTimeout(() => this.bring(handlers), this.random.below(LONGEST_WAIT_MS));
      return;
    }
    if (body.kind === "queueEmpty") this.bring(handlers);
    handlers.frame(frame);
  }

  private bring(handlers: SocketHandlers): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    const { random, waiting } = this;
    this.waiting = [];
    if (waiting.length === 0) return;
    const shuffled = [...waiting];
    for (let at = shuffled.length - 1; at > 0; at--) {
      const other = random.below(at + 1);
      [shuffled[at], shuffled[other]] = [shuffled[other]!, shuffled[at]!];
    }
    this.reordered += shuffled.filter((one, at) => one !== waiting[at]).length;
    // Of earlier ones, and of these.
    this.copies.push(...waiting.filter(() => random.below(3) === 0));
    const copies = this.copies.splice(0, Math.min(MOST_COPIES, random.below(this.copies.length + 1)));
    this.doubled += copies.length;
    const last = waiting.at(-1)!.envelopeId;
    const envelopes = [...shuffled, ...copies].map((one, at) => {
      this.real.push(waiting[at]?.envelopeId ?? last);
      return { ...one, envelopeId: this.real.length as Id };
    });
    const { marks } = this;
    this.marks = {};
    handlers.frame({ requestId: 0, body: { kind: "deliver", envelopes, ...marks } });
  }

  private withRealNumber(frame: ClientFrame): ClientFrame {
    const { body } = frame;
    if (body.kind !== "acknowledge") return frame;
    return { ...frame, body: { ...body, throughEnvelopeId: this.real[body.throughEnvelopeId - 1]! } };
  }
}
