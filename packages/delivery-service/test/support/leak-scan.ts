/** Something that must not be found. At least 8 bytes, so that no chance makes it appear. */
export interface Needle {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface Haystack {
  readonly name: string;
  readonly bytes: Uint8Array;
}

export interface Leak {
  readonly needle: string;
  readonly haystack: string;
}

/**
 * Looks for every needle as raw bytes, hexadecimal of either case, base64 and base64url at each of the three
 * alignments, and UTF-16 of either byte order.
 */
export function scan(haystacks: readonly Haystack[], needles: readonly Needle[]): Leak[] {
  const leaks: Leak[] = [];
  for (const haystack of haystacks) {
    const bytes = Buffer.from(haystack.bytes);
    const lower = Buffer.from(bytes.toString("latin1").toLowerCase(), "latin1");
    for (const needle of needles) {
      if (needle.bytes.length < 8) throw new Error("a needle this short is found anywhere");
      const found =
        formsOf(needle.bytes).some((form) => bytes.includes(form)) ||
        lower.includes(Buffer.from(Buffer.from(needle.bytes).toString("hex")));
      if (found) leaks.push({ needle: needle.name, haystack: haystack.name });
    }
  }
  return leaks;
}

function formsOf(needle: Uint8Array): Buffer[] {
  const raw = Buffer.from(needle);
  const wide = Buffer.from(raw.toString("latin1"), "utf16le");
  const base64 = [0, 1, 2].flatMap((shift) => {
    // The characters that do not depend on what stands before and after the needle.
    const padded = Buffer.concat([Buffer.alloc(shift), raw]);
    const firstWhole = Math.ceil((shift * 8) / 6);
    const wholeCharacters = Math.floor((padded.length * 8) / 6);
    return (["base64", "base64url"] as const).map((alphabet) =>
      Buffer.from(padded.toString(alphabet).slice(firstWhole, wholeCharacters)),
    );
  });
  return [raw, wide, Buffer.from(wide).swap16(), ...base64];
}
