/** Judges a chaos run by what its clients have at the end. Pure. */
import type { CommitUnderWay } from "./commit-watch.ts";
import type { Target } from "./plan.ts";

/** A fan-out is done sooner, unless somebody is away; then it is no fan-out any more. */
const FAN_OUT_MS = 1_000;

/** A message that was said in a group, and the histories of those who were members throughout. */
export interface Story {
  readonly text: string;
  /** When its sender heard that it is durable, ms since 1970; undefined: never. */
  readonly acceptedAtMs: number | undefined;
  /** When each member stored it, as often as it has it. */
  readonly stored: readonly { readonly member: string; readonly atMs: readonly number[] }[];
}

export interface Kill {
  readonly target: Target;
  readonly atMs: number;
}

export interface Hits {
  /** Kills by what was under way then. One that hit both is in each. */
  readonly commits: number;
  readonly fanOuts: number;
  /** Kills that hit either or both. */
  readonly kills: number;
}

/**
 * A commit counts as hit by the kill of an engine when its answer had not come, and by that of a node when its connection
 * broke without an answer; a fan-out when its sender had been answered within the last second and not every member had
 * the message. O(kills × (commits + stories × members)).
 */
export function countHits(
  kills: readonly Kill[],
  commits: readonly CommitUnderWay[],
  stories: readonly Story[],
): Hits {
  const wasCommit = ({ target, atMs }: Kill) =>
    commits.some(
      ({ sentAtMs, endedAtMs = Number.POSITIVE_INFINITY, answered }) =>
        sentAtMs <= atMs && atMs < endedAtMs && !(target.startsWith("node") && answered),
    );
  const wasFanOut = ({ atMs }: Kill) =>
    stories.some(
      ({ acceptedAtMs, stored }) =>
        acceptedAtMs !== undefined &&
        acceptedAtMs <= atMs &&
        atMs - acceptedAtMs < FAN_OUT_MS &&
        stored.some(({ atMs: times }) => times.length > 0 && Math.min(...times) > atMs),
    );
  const [hitCommits, hitFanOuts] = [kills.filter(wasCommit), kills.filter(wasFanOut)];
  return {
    commits: hitCommits.length,
    fanOuts: hitFanOuts.length,
    kills: new Set([...hitCommits, ...hitFanOuts]).size,
  };
}

/** A run proves something where one kill hit a commit and another one a fan-out: the same kill is not both. */
export function isVoid({ commits, fanOuts, kills }: Hits): boolean {
  return commits === 0 || fanOuts === 0 || kills < 2;
}

export interface Losses {
  /** Pairs of message and member. */
  readonly deliveries: number;
  readonly lost: readonly string[];
  readonly doubled: readonly string[];
  readonly neverAccepted: readonly string[];
}

export function findLosses(stories: readonly Story[]): Losses {
  const told = stories.flatMap(({ text, stored }) =>
    stored.map(({ member, atMs }) => ({ times: atMs.length, what: `"${text}" at ${member}` })),
  );
  const named = (wanted: (times: number) => boolean) =>
    told.filter(({ times }) => wanted(times)).map(({ what }) => what);
  return {
    deliveries: told.filter(({ times }) => times > 0).length,
    lost: named((times) => times === 0),
    doubled: named((times) => times > 1),
    neverAccepted: stories.filter(({ acceptedAtMs }) => acceptedAtMs === undefined).map(({ text }) => text),
  };
}
