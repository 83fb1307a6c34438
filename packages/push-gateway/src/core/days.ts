const DAY_MS = 86_400_000;

/** Whole days since 1970. */
export const dayOf = (nowMs: number): number => Math.floor(nowMs / DAY_MS);
