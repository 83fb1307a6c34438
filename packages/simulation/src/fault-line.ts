/** One direction of one connection through the fault proxy. */
import type { Socket } from "node:net";
import { decideArrival, idleLine, type LinkShape, pieceBytes } from "./link-shape.ts";

/** Bytes that one direction holds back at most; then its source has to wait, as with a full window of TCP. */
const MAX_UNDER_WAY_BYTES = 256 * 1024;

interface Piece {
  /** Undefined: the end of the stream. */
  readonly bytes: Uint8Array | undefined;
  readonly arrivesAtMs: number;
}

export interface LineEnvironment {
  /** The shape as it is now: it may change while bytes are under way. */
  shape(): LinkShape;
  /** From 0 to below 1. */
  luck(): number;
  /** Bytes that reached the other side. */
  passed(bytes: number): void;
  /** Bytes that vanished. */
  swallowed(bytes: number): void;
}

/** Reads `source`, holds back, writes `target`. A line that swallows stays so: a TCP stream has no gaps. */
export class FaultLine {
  private readonly source: Socket;
  private readonly target: Socket;
  private readonly environment: LineEnvironment;
  private readonly underWay: Piece[] = [];
  private underWayBytes = 0;
  private line = idleLine;
  private timer: NodeJS.Timeout | undefined;
  private swallowing = false;
  private stopped = false;

  constructor(source: Socket, target: Socket, environment: LineEnvironment) {
    this.source = source;
    this.target = target;
    this.environment = environment;
    source.on("data", (chunk: Buffer) => this.enter(chunk));
    source.on("end", () => this.enterEnd());
    target.on("drain", () => this.handOn());
  }

  /** From now on nothing arrives any more, what is under way and the end of the stream included. */
  swallow(): void {
    this.swallowing = true;
    this.environment.swallowed(this.underWayBytes);
    this.forget();
    this.source.resume();
  }

  get swallows(): boolean {
    return this.swallowing;
  }

  stop(): void {
    this.stopped = true;
    this.forget();
  }

  private forget(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.underWay.length = 0;
    this.underWayBytes = 0;
  }

  private enter(chunk: Uint8Array): void {
    if (this.stopped) return;
    if (this.swallowing) {
      this.environment.swallowed(chunk.length);
      return;
    }
    const shape = this.environment.shape();
    const size = pieceBytes(shape);
    for (let offset = 0; offset < chunk.length; offset += size) {
      this.push(chunk.subarray(offset, offset + size), shape);
    }
    if (this.underWayBytes > MAX_UNDER_WAY_BYTES) this.source.pause();
    this.handOn();
  }

  private enterEnd(): void {
    if (this.stopped || this.swallowing) return;
    this.push(undefined, this.environment.shape());
    this.handOn();
  }

  private push(bytes: Uint8Array | undefined, shape: LinkShape): void {
    const length = bytes?.length ?? 0;
    this.line = decideArrival(this.line, length, shape, performance.now(), this.environment.luck());
    this.underWay.push({ bytes, arrivesAtMs: this.line.lastArrivalMs });
    this.underWayBytes += length;
  }

  private handOn(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    for (;;) {
      const piece = this.underWay[0];
      if (piece === undefined || this.target.destroyed || this.target.writableNeedDrain) break;
      const waitMs = piece.arrivesAtMs - performance.now();
      if (waitMs > 0) {
        this.timer = setTimeout(() => this.handOn(), Math.ceil(waitMs));
        break;
      }
      this.underWay.shift();
      if (piece.bytes === undefined) this.target.end();
      else this.write(piece.bytes);
    }
    if (this.underWayBytes <= MAX_UNDER_WAY_BYTES / 2) this.source.resume();
  }

  private write(bytes: Uint8Array): void {
    this.underWayBytes -= bytes.length;
    this.environment.passed(bytes.length);
    this.target.write(bytes);
  }
}
