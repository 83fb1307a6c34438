/** How many are kept. */
export const KEPT = 256;

/** What was made of the public keys used last, by their bytes. */
export class KeptKeys<Made> {
  readonly #made = new Map<string, Made>();

  /** What `make` returns, or has returned; `undefined` is not kept. */
  get(publicKey: Uint8Array, make: () => Made | undefined): Made | undefined {
    const name = Buffer.from(publicKey.buffer, publicKey.byteOffset, publicKey.length).toString("latin1");
    let made = this.#made.get(name);
    if (made === undefined) {
      made = make();
      if (made === undefined) return undefined;
      if (this.#made.size >= KEPT) {
        for (const oldest of this.#made.keys()) {
          this.#made.delete(oldest);
          break;
        }
      }
    } else {
      this.#made.delete(name);
    }
    // A Map keeps the order of insertion, so the first entry is the one used longest ago.
    this.#made.set(name, made);
    return made;
  }
}
