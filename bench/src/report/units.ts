/** Figures as people read them: three significant digits and one unit, decimal prefixes throughout. */

const BYTE_UNITS = ["B", "kB", "MB", "GB", "TB"] as const;
const TIME_UNITS = ["µs", "ms", "s"] as const;

/** Non-breaking, so that a figure and its unit stay on one line. */
const SPACE = " ";

/** Three significant digits without an exponent; whole numbers above 999 keep all of theirs. */
export function significant(value: number): string {
  if (value === 0) return "0";
  const magnitude = Math.floor(Math.log10(Math.abs(value)));
  const decimals = Math.min(Math.max(2 - magnitude, 0), 6);
  return value.toLocaleString("en", { maximumFractionDigits: decimals });
}

function scaled(value: number, units: readonly string[]): string {
  let [unit, rest] = [0, value];
  // 999.5 and more would be printed as 1,000 of the smaller unit.
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  return `${significant(rest)}${SPACE}${units[unit]}`;
}

/** `1.23 kB`; a kB has 1,000 bytes. */
export const formatBytes = (bytes: number): string => scaled(bytes, BYTE_UNITS);

/** `4.56 ms`, from microseconds. */
export function formatMicroseconds(us: number): string {
  if (us >= 120e6) return `${significant(us / 60e6)}${SPACE}min`;
  return scaled(us, TIME_UNITS);
}

/** `1.1–1.4 ms`, with the unit once where both have the same. */
export function formatSpread(leastUs: number, mostUs: number): string {
  const [least, most] = [formatMicroseconds(leastUs), formatMicroseconds(mostUs)];
  const [figure, unit] = least.split(SPACE);
  return most.endsWith(`${SPACE}${unit}`) ? `${figure}–${most}` : `${least} – ${most}`;
}

/** Exact, with separators: for counts and bytes that are compared digit by digit. */
export const formatCount = (count: number): string =>
  count.toLocaleString("en", { maximumFractionDigits: 1 });

/** A ratio to nothing has no figure. */
export const formatRatio = (ratio: number): string =>
  Number.isFinite(ratio) ? `×${significant(ratio)}` : "–";

/** `2026-01-02 03:04 UTC` of an ISO date; anything else as it is. */
export function formatDate(iso: string): string {
  const time = Date.parse(iso);
  if (Number.isNaN(time)) return iso;
  return `${new Date(time).toISOString().slice(0, 16).replace("T", " ")} UTC`;
}

/** `a`, `a and b`, `a, b and c`. */
export function joinWords(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
