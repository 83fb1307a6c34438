const UNIT_MS = { m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** A length of time as it is written here, ms: minutes (30m), hours (8h) or days (7d). Undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const [, count, unit] = /^(\d{1,4})([mhd])$/.exec(text) ?? [];
  return count === undefined ? undefined : Number(count) * UNIT_MS[unit as keyof typeof UNIT_MS];
}
