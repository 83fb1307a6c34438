/**
 * One TCP connection of a load client. Thousands live in one process, so bytes are read into one buffer for all of them
 * and a frame is a view of it: who takes it copies what it keeps.
 */
import { connect, type Socket } from "node:net";

const received = Buffer.allocUnsafeSlow(256 * 1024);

/** Takes the first whole frame of these bytes; returns how long it was, 0 when it is not whole yet. */
export type TakeFrame = (bytes: Buffer) => number;

export class LoadSocket {
  private readonly socket: Socket;
  private readonly take: TakeFrame;
  /** The beginning of a frame that is not whole. */
  private rest: Buffer | undefined;

  constructor(port: number, take: TakeFrame, closed: () => void) {
    this.take = take;
    this.socket = connect({
      port,
      host: "127.0.0.1",
      noDelay: true,
      onread: {
        buffer: received,
        callback: (length) => {
          this.read(received.subarray(0, length));
          return true;
        },
      },
    });
    // What went wrong is said by `close`, which follows.
    this.socket.on("error", () => {});
    this.socket.on("close", closed);
  }

  write(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** Ends as a device that falls off the network, and leaves no port waiting. */
  cut(): void {
    this.socket.resetAndDestroy();
  }

  private read(chunk: Buffer): void {
    let bytes = this.rest === undefined ? chunk : Buffer.concat([this.rest, chunk]);
    for (let length = this.take(bytes); length > 0; length = bytes.length > 0 ? this.take(bytes) : 0) {
      bytes = bytes.subarray(length);
    }
    this.rest = bytes.length === 0 ? undefined : Buffer.from(bytes);
  }
}
