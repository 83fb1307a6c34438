import type { Bytes } from "@murmuration/base";
import type { Context } from "./context.ts";

/** A mark that comes with nothing else is written down this often, ms. Not after a submit: the service would see when that was. */
const WRITE_EVERY_MS = 60_000;

/**
 * The newest mark that the service gave of its store. Shown at the next Hello, it tells the service if it was set back to an
 * older copy (docs/wire-protocol.md 3.1).
 */
export class KeptMark {
  private readonly context: Context;
  /** What came since the last one was written. */
  private heard: Bytes | undefined;
  private writtenAtMs = Number.NEGATIVE_INFINITY;

  constructor(context: Context) {
    this.context = context;
  }

  newest(): Bytes | undefined {
    return this.heard ?? this.context.meta.bytes("store-mark");
  }

  /** Something else is written soon, and the mark with it ({@link write}). */
  hear(mark: Bytes | undefined): void {
    this.heard = mark ?? this.heard;
  }

  /** Nothing else may be written soon. */
  hearAlone(mark: Bytes): void {
    this.heard = mark;
    if (Math.abs(this.context.now() - this.writtenAtMs) >= WRITE_EVERY_MS) this.keep();
  }

  /** Writes it down, if it is not yet. Does not throw: nothing depends on it but what can be proven later. */
  keep(): void {
    if (this.heard === undefined) return;
    try {
      this.context.transaction(() => this.write());
    } catch (error) {
      this.context.failed(error);
    }
  }

  /** Inside a transaction. */
  write(): void {
    if (this.heard === undefined) return;
    this.context.meta.setBytes("store-mark", this.heard);
    this.heard = undefined;
    this.writtenAtMs = this.context.now();
  }
}
