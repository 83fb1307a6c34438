/** From samples to rows: best, median, mean counts, and the floor beside them. */

import { median } from "../median.ts";
import {
  contradictions,
  type FloorInput,
  floorCounts,
  floorMs,
  meanPathLength,
  meanSharedNodes,
} from "./floor.ts";
import type { PrimitiveCosts } from "./primitives.ts";
import type { Counts, ImplementationName, Operation, Row } from "./rows.ts";
import { operations } from "./rows.ts";
import { receiverLeaves, type Sample } from "./units.ts";

interface Series {
  readonly samples: Sample[];
  cut?: string;
}

/** Collects what one size yields, for all implementations. */
export class SizeCollector {
  private readonly members: number;
  private readonly series = new Map<string, Series>();

  constructor(members: number) {
    this.members = members;
  }

  private of(implementation: ImplementationName, operation: Operation): Series {
    const key = `${implementation}/${operation}`;
    let series = this.series.get(key);
    if (series === undefined) {
      series = { samples: [] };
      this.series.set(key, series);
    }
    return series;
  }

  add(implementation: ImplementationName, samples: readonly Sample[]): void {
    for (const sample of samples) this.of(implementation, sample.operation).samples.push(sample);
  }

  /** Notes why an operation has no time; times that it has already stay. */
  cut(implementation: ImplementationName, operation: Operation, why: string): void {
    this.of(implementation, operation).cut = why;
  }

  /** Rows in the order of the operations. With costs, floor rows and ratios as well. */
  rows(
    implementations: readonly ImplementationName[],
    costs: readonly PrimitiveCosts[],
    ratiosStand: boolean,
  ): { readonly rows: Row[]; readonly contradictions: string[] } {
    const rows: Row[] = [];
    const found: string[] = [];
    for (const operation of operations) {
      const floor = this.floorRow(operation, implementations, costs);
      for (const name of implementations) {
        const series = this.series.get(`${name}/${operation}`);
        if (series === undefined) continue;
        const row = this.row(name, operation, series);
        const ratio =
          floor?.medianMs && row.medianMs !== null && ratiosStand ? row.medianMs / floor.medianMs : null;
        rows.push({ ...row, ratioToFloor: ratio === null ? null : round(ratio) });
        if (floor?.counts && series.samples.length > 0 && name === "murmuration") {
          found.push(...contradictions(operation, floor.counts, largestCounts(series.samples)));
        }
      }
      if (floor !== undefined) rows.push(floor);
    }
    return { rows, contradictions: found };
  }

  private row(implementation: ImplementationName, operation: Operation, { samples, cut }: Series): Row {
    const times = samples.map(({ ms }) => ms);
    const worst = samples.map(({ worstMs }) => worstMs ?? 0);
    const measured = samples.length > 0;
    return {
      operation,
      members: this.members,
      implementation,
      bestMs: measured ? round(Math.min(...times)) : null,
      medianMs: measured ? round(median(times)) : null,
      worstMs: measured && Math.max(...worst) > 0 ? round(Math.max(...worst)) : null,
      bytes: samples.at(-1)?.bytes ?? null,
      counts: measured ? meanCounts(samples) : null,
      ratioToFloor: null,
      runs: samples.length,
      ...(cut !== undefined && !measured ? { cut } : {}),
    };
  }

  private floorRow(
    operation: Operation,
    implementations: readonly ImplementationName[],
    costs: readonly PrimitiveCosts[],
  ): Row | undefined {
    const measured = implementations.flatMap(
      (name) => this.series.get(`${name}/${operation}`)?.samples.slice(-1) ?? [],
    );
    if (measured.length === 0 || costs.length === 0) return undefined;
    const { members } = this;
    const team = [0, ...receiverLeaves(members)];
    const committers = operation.endsWith("cold") ? [0] : operation === "store-commit" ? [0] : team;
    const receivers = operation === "store-commit" ? [members - 1] : team;
    const input: FloorInput = {
      members,
      // What is written to storage is no part of the floor's bytes, and a small commit hardly is.
      bytes: operation.startsWith("store") ? 0 : Math.min(...measured.map(({ bytes }) => bytes ?? 0)),
      path: meanPathLength(committers, members),
      shared: meanSharedNodes(committers, receivers, members),
    };
    const counts = floorCounts(operation, input);
    if (counts === undefined) return undefined;
    const times = costs.map((cost) => floorMs(counts, cost));
    return {
      operation,
      members,
      implementation: "floor",
      bestMs: round(Math.min(...times)),
      medianMs: round(median(times)),
      worstMs: null,
      bytes: null,
      counts: Object.fromEntries(
        Object.entries(counts).map(([name, value]) => [name, Math.round(value * 100) / 100]),
      ),
      ratioToFloor: 1,
      runs: costs.length,
    };
  }
}

const round = (value: number): number => Number(value.toPrecision(4));

function countsBy(samples: readonly Sample[], fold: (values: readonly number[]) => number): Counts {
  const names = new Set(samples.flatMap(({ counts }) => Object.keys(counts)));
  return Object.fromEntries(
    [...names]
      .map((name) => [name, fold(samples.map(({ counts }) => counts[name] ?? 0))] as const)
      .filter(([, value]) => value > 0),
  );
}

const meanCounts = (samples: readonly Sample[]): Counts =>
  countsBy(
    samples,
    (values) => Math.round((values.reduce((sum, value) => sum + value, 0) / values.length) * 100) / 100,
  );
const largestCounts = (samples: readonly Sample[]): Counts =>
  countsBy(samples, (values) => Math.max(...values));
