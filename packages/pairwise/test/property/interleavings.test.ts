import fc from "fast-check";
import { describe, expect, test } from "vitest";
import type { DecryptOutcome, IncomingEnvelope } from "../../src/index.ts";
import { Peer, textOf, World } from "../support/peers.ts";

/** An envelope on its way: whose it is, and what it must say if it is ever accepted. */
interface InFlight {
  readonly from: number;
  readonly to: number;
  readonly reference: number;
  readonly text: string;
  readonly envelope: IncomingEnvelope;
}

type Step =
  | { readonly kind: "send"; readonly from: number; readonly to: number; readonly sealed: boolean }
  | { readonly kind: "deliver"; readonly pick: number }
  | { readonly kind: "duplicate"; readonly pick: number }
  | { readonly kind: "drop"; readonly pick: number }
  | { readonly kind: "crash"; readonly device: number; readonly pick: number }
  | { readonly kind: "forget"; readonly device: number };

const index = fc.nat({ max: 1_000 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("send" as const),
      from: index,
      to: index,
      sealed: fc.boolean(),
    }),
  },
  { weight: 6, arbitrary: fc.record({ kind: fc.constant("deliver" as const), pick: index }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("duplicate" as const), pick: index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("drop" as const), pick: index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("crash" as const), device: index, pick: index }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("forget" as const), device: index }) },
);

/** Devices and a network that may reorder, repeat and lose; each device reads its envelopes as a client would. */
class Network {
  readonly peers: Peer[] = [];
  readonly flight: InFlight[] = [];
  readonly delivered: InFlight[] = [];
  readonly accepted = new Map<string, number>();
  readonly dropped = new Set<string>();
  /** Texts of which a device was told that they are lost. */
  readonly lost = new Set<string>();
  readonly asked = new Set<string>();
  readonly acceptedEnvelopes = new Set<IncomingEnvelope>();
  readonly kinds: Record<string, number> = {};
  private sent = 0;

  static async open(devices: number): Promise<Network> {
    const network = new Network();
    const world = new World();
    for (let i = 0; i < devices; i++) network.peers.push(await Peer.create(world));
    for (const peer of network.peers) await peer.meet(...network.peers.filter((other) => other !== peer));
    return network;
  }

  async run(action: Step): Promise<void> {
    const count = this.peers.length;
    switch (action.kind) {
      case "send": {
        const from = action.from % count;
        const to = (from + 1 + (action.to % (count - 1))) % count;
        return this.send(from, to, `text ${this.sent++}`, action.sealed ? "sealed" : "identified");
      }
      case "deliver":
        return this.deliver(this.take(action.pick));
      case "duplicate": {
        const again = this.delivered[action.pick % Math.max(1, this.delivered.length)];
        if (again !== undefined) this.flight.push(again);
        return;
      }
      case "drop": {
        const lost = this.take(action.pick);
        if (lost !== undefined) this.dropped.add(lost.text);
        return;
      }
      case "crash":
        return this.crash(action.device % count);
      case "forget":
        return this.peers[action.device % count]!.engine.deleteSessions(
          undefined,
          this.peers[action.device % count]!.store.persist(),
        );
    }
  }

  private take(pick: number): InFlight | undefined {
    return this.flight.splice(pick % Math.max(1, this.flight.length), 1)[0];
  }

  private async send(
    from: number,
    to: number,
    text: string,
    mode: "sealed" | "identified",
    reference?: number,
  ) {
    const [sender, recipient] = [this.peers[from]!, this.peers[to]!];
    if (sender.store.keys("session").length < this.peers.length - 1) await sender.meet(recipient);
    const options = reference === undefined ? { mode } : { mode, reference };
    const sent = await sender.send(text, [recipient], options);
    this.flight.push({ from, to, text, reference: sent.reference, envelope: sent.envelopes[0]! });
  }

  /** Dies in the middle of reading: the write set is never stored, so the envelope stays in its mailbox. */
  private async crash(device: number): Promise<void> {
    const waiting = this.flight.find((envelope) => envelope.to === device);
    if (waiting === undefined) return;
    const peer = this.peers[device]!;
    const request = { envelopes: [waiting.envelope] };
    const died = peer.engine.decrypt(request, () => {
      throw new RangeError("crash");
    });
    await died.catch((error) => expect(error).toBeInstanceOf(RangeError));
    peer.restart();
  }

  async deliver(item: InFlight | undefined): Promise<void> {
    if (item === undefined) return;
    this.delivered.push(item);
    const outcome = await this.peers[item.to]!.receive(item.envelope);
    await this.note(item, outcome);
  }

  private async note(item: InFlight, outcome: DecryptOutcome): Promise<void> {
    this.kinds[outcome.kind] = (this.kinds[outcome.kind] ?? 0) + 1;
    if (outcome.kind === "message") {
      expect(textOf(outcome)).toBe(item.text);
      expect(this.acceptedEnvelopes.has(item.envelope), "an envelope accepted twice").toBe(false);
      this.acceptedEnvelopes.add(item.envelope);
      this.accepted.set(item.text, (this.accepted.get(item.text) ?? 0) + 1);
      return;
    }
    if (outcome.kind === "retry") return this.sendAgain(item, outcome);
    if (outcome.kind === "lost") this.lost.add(item.text);
    if (outcome.kind === "rejected") expect(outcome.code).toBe("pairwise/too-many-retries");
    else expect(["duplicate", "lost"]).toContain(outcome.kind);
  }

  /** The retry request reaches the sender, who sends the same text again under the same reference. */
  private async sendAgain(item: InFlight, retry: Extract<DecryptOutcome, { kind: "retry" }>): Promise<void> {
    expect(retry.reference).toBe(item.reference);
    this.asked.add(item.text);
    const sender = this.peers[item.from]!;
    const asked = await sender.receive(this.peers[item.to]!.envelope(retry.request, retry.mode));
    if (asked.kind !== "retry-requested") return;
    if (asked.sessionArchived) await sender.meet(this.peers[item.to]!);
    await this.send(item.from, item.to, item.text, retry.mode, asked.reference);
  }

  async settle(): Promise<void> {
    for (let i = 0; i < 10_000 && this.flight.length > 0; i++) await this.deliver(this.flight.shift());
    expect(this.flight).toHaveLength(0);
  }

  get textsSent(): string[] {
    return Array.from({ length: this.sent }, (_, i) => `text ${i}`);
  }
}

describe("arbitrary interleavings between two to four devices", () => {
  test("each envelope is accepted at most once, and what was not dropped arrives or is reported as lost", async () => {
    const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);
    console.log(`SEED=${seed}`);
    const seen: Record<string, number> = {};
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 4 }),
        fc.array(step, { minLength: 30, maxLength: 70, size: "max" }),
        async (devices, steps) => {
          const network = await Network.open(devices);
          for (const action of steps) await network.run(action);
          await network.settle();
          for (const [kind, count] of Object.entries(network.kinds)) seen[kind] = (seen[kind] ?? 0) + count;
          for (const text of network.textsSent) {
            const times = network.accepted.get(text) ?? 0;
            // Sent once: accepted once. Sent again on request: the client tells copies apart by message id.
            if (!network.asked.has(text)) expect(times, text).toBeLessThanOrEqual(1);
            if (!network.dropped.has(text) && !network.lost.has(text))
              expect(times, text).toBeGreaterThanOrEqual(1);
          }
        },
      ),
      { seed, numRuns: 16, endOnFailure: true },
    );
    console.log("outcomes:", seen);
    // A run in which nothing was repeated or asked for again would have shown nothing.
    for (const kind of ["message", "duplicate", "retry"]) expect(seen[kind], kind).toBeGreaterThan(0);
  });
});
