/**
 * Where the costs of two protocols cross. Only sizes at which both were measured count, and a crossing is the
 * interval between two of them: where within it the lines meet was not measured, so it is not said.
 */

/** What one size costs. Exact figures have no spread; two whose spreads overlap are not told apart. */
export interface Point {
  readonly members: number;
  readonly cost: number;
  readonly least?: number;
  readonly most?: number;
}

export type Side = "first" | "second";

export interface Crossing {
  /** Last measured size at which `cheaperBefore` costs less. */
  readonly after: number;
  /** First measured size at which the other does. */
  readonly upTo: number;
  readonly cheaperBefore: Side;
}

export interface Comparison {
  /** Sizes at which both were measured, ascending. */
  readonly sizes: readonly number[];
  readonly crossings: readonly Crossing[];
  /** Sizes at which both cost the same, or not told apart within their spreads. */
  readonly equalAt: readonly number[];
  /** Which costs less at the smallest and at the largest size where they differ; undefined where none does. */
  readonly cheaperAtStart: Side | undefined;
  readonly cheaperAtEnd: Side | undefined;
}

/** Which of two costs less; undefined where they are the same or their spreads overlap. */
function cheaperOf(first: Point, second: Point): Side | undefined {
  if ((first.most ?? first.cost) < (second.least ?? second.cost)) return "first";
  if ((second.most ?? second.cost) < (first.least ?? first.cost)) return "second";
  return undefined;
}

/** Compares two series in any order. A size that only one of them has is left out; a touch is no crossing. */
export function compareCosts(first: readonly Point[], second: readonly Point[]): Comparison {
  const others = new Map(second.map((point) => [point.members, point]));
  const common = first
    .filter(({ members }) => others.has(members))
    .map((point) => ({ members: point.members, cheaper: cheaperOf(point, others.get(point.members)!) }))
    .sort((a, b) => a.members - b.members);
  const differing = common.filter(({ cheaper }) => cheaper !== undefined);
  const crossings = differing.flatMap(({ members, cheaper }, i) => {
    const before = differing[i - 1];
    if (before?.cheaper === undefined || before.cheaper === cheaper) return [];
    return [{ after: before.members, upTo: members, cheaperBefore: before.cheaper }];
  });
  return {
    sizes: common.map(({ members }) => members),
    crossings,
    equalAt: common.filter(({ cheaper }) => cheaper === undefined).map(({ members }) => members),
    cheaperAtStart: differing[0]?.cheaper,
    cheaperAtEnd: differing.at(-1)?.cheaper,
  };
}
