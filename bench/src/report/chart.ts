/** Charts as SVG text, drawn on this side by ECharts: a reader's browser runs nothing. */
import { BarChart, LineChart } from "echarts/charts";
import {
  GridComponent,
  LegendComponent,
  MarkAreaComponent,
  MarkLineComponent,
  TitleComponent,
} from "echarts/components";
import { init, use } from "echarts/core";
import { SVGRenderer } from "echarts/renderers";
import { ink, lookOf } from "./palette.ts";
import { formatBytes, formatCount, formatMicroseconds } from "./units.ts";

use([
  BarChart,
  LineChart,
  GridComponent,
  LegendComponent,
  MarkAreaComponent,
  MarkLineComponent,
  TitleComponent,
  SVGRenderer,
]);

export type Unit = "bytes" | "us";

export interface Series {
  /** Decides the look, so that a protocol is the same in every chart. */
  readonly name: string;
  readonly label: string;
  readonly points: readonly (readonly [members: number, cost: number])[];
}

/** Measured sizes between which two costs cross. */
export interface Band {
  readonly from: number;
  readonly to: number;
}

export interface LineChartSpecification {
  readonly series: readonly Series[];
  readonly unit: Unit;
  readonly bands: readonly Band[];
  /** Sizes with a tick and a line; labels that do not fit are left out. */
  readonly sizes: readonly number[];
}

export interface Size {
  readonly width: number;
  readonly height: number;
}

/** Beside a table or on paper, and across a phone: the letters have the same size in both. */
export const WIDE: Size = { width: 620, height: 380 };
export const NARROW: Size = { width: 330, height: 300 };

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const LETTERS = 12;

const formatIn = (unit: Unit): ((value: number) => string) =>
  unit === "bytes" ? formatBytes : formatMicroseconds;

interface Options {
  /** For a chart that stands alone: a title and a legend in the picture. */
  readonly title?: string;
}

/** Cost over members, both logarithmic. A cost of 0 has no place on such an axis and is left out. */
export function lineChart(specification: LineChartSpecification, size: Size, options: Options = {}): string {
  const { unit, bands, sizes } = specification;
  const series = specification.series
    .map((each) => ({ ...each, points: each.points.filter(([, cost]) => cost > 0) }))
    .filter(({ points }) => points.length > 0);
  const costs = series.flatMap(({ points }) => points.map(([, cost]) => cost));
  const least = 10 ** Math.floor(Math.log10(Math.min(...costs)));
  const most = Math.max(10 ** Math.ceil(Math.log10(Math.max(...costs))), least * 10);
  const first = Math.min(...sizes);
  const last = Math.max(...sizes, first * 2);
  const labelled = ticksThatFit(sizes, size.width - 110);
  const format = formatIn(unit);
  const axis = {
    axisLine: { lineStyle: { color: ink.axis.light } },
    axisTick: { show: true, lineStyle: { color: ink.axis.light } },
    splitLine: { show: true, lineStyle: { color: ink.grid.light } },
  };
  const text = { color: ink.text.light, fontSize: LETTERS, fontFamily: FONT };
  const marks = bands.map(({ from, to }) => [{ xAxis: from }, { xAxis: to }] as [object, object]);
  return draw(
    {
      ...(options.title === undefined ? {} : standingAlone(options.title, size)),
      grid: {
        left: 6,
        right: 22,
        top: options.title === undefined ? 12 : 112,
        bottom: 26,
        outerBoundsMode: "same",
      },
      xAxis: {
        ...axis,
        type: "log",
        name: "members",
        nameLocation: "middle",
        nameGap: 26,
        nameTextStyle: text,
        min: first,
        max: last,
        axisLabel: { ...text, customValues: labelled, formatter: (value: number) => formatCount(value) },
        axisTick: { ...axis.axisTick, customValues: [...sizes] },
      },
      yAxis: {
        ...axis,
        type: "log",
        min: least,
        max: most,
        axisLabel: { ...text, formatter: (value: number) => format(value) },
      },
      series: series.map(({ name, label, points }, position) => {
        const look = lookOf(name, position);
        return {
          type: "line" as const,
          name: label,
          data: points.map((point) => [...point]).sort((a, b) => a[0]! - b[0]!),
          symbol: look.symbol,
          symbolSize: 7,
          showAllSymbol: true,
          itemStyle: { color: look.light },
          lineStyle: { color: look.light, width: 2, type: look.dash.length === 0 ? "solid" : [...look.dash] },
          ...(position === 0 && marks.length > 0
            ? { markArea: { itemStyle: { color: ink.band.light }, data: marks } }
            : {}),
        };
      }),
    },
    size,
  );
}

/** Letters are wider in some fonts than they are taken for here, so the legend has room and a second line. */
function standingAlone(title: string, size: Size): Readonly<Record<string, unknown>> {
  const text = { color: ink.text.light, fontFamily: FONT };
  return {
    title: { text: title, left: 10, top: 10, textStyle: { ...text, fontSize: 16, fontWeight: "bold" } },
    legend: {
      top: 40,
      left: 10,
      width: size.width - 160,
      itemWidth: 34,
      itemGap: 26,
      textStyle: { ...text, fontSize: LETTERS },
    },
  };
}

export interface Bar {
  readonly label: string;
  /** Decides the colour. */
  readonly name: string;
  readonly value: number;
}

/** Ratios as bars from x1 on, logarithmic, with a line where a cost that is linear in N ends. */
export function ratioChart(bars: readonly Bar[], linear: number, width: number): string {
  const most = Math.max(linear, ...bars.map(({ value }) => value));
  const least = Math.min(1, ...bars.map(({ value }) => value));
  const labels = Math.round(width * 0.36);
  const [lowest, highest] = [Math.floor(Math.log2(least)), Math.ceil(Math.log2(most * 1.05))];
  const step = width < WIDE.width ? 2 : 1;
  const ticks = Array.from({ length: highest - lowest + 1 }, (_, i) => lowest + i)
    .filter((exponent) => exponent % step === 0)
    .map((exponent) => 2 ** exponent);
  const text = { color: ink.text.light, fontSize: LETTERS, fontFamily: FONT };
  const sorted = bars.toReversed();
  return draw(
    {
      // Letters are wider in some fonts than they are taken for here.
      grid: { left: Math.round(labels * 1.2) + 10, right: 44, top: 24, bottom: 26, outerBoundsMode: "none" },
      xAxis: {
        type: "log",
        logBase: 2,
        min: 2 ** lowest,
        max: 2 ** highest,
        axisLine: { show: false },
        axisLabel: { ...text, customValues: ticks, formatter: (value: number) => `×${value}` },
        splitLine: { show: true, lineStyle: { color: ink.grid.light } },
      },
      yAxis: {
        type: "category",
        data: sorted.map(({ label }) => label),
        axisTick: { show: false },
        axisLine: { lineStyle: { color: ink.axis.light } },
        axisLabel: { ...text, width: labels, overflow: "break", interval: 0 },
      },
      series: [
        {
          type: "bar" as const,
          barWidth: 13,
          data: sorted.map(({ name, value }, position) => ({
            value,
            itemStyle: { color: lookOf(name, position).light },
          })),
          label: {
            show: true,
            position: "right",
            ...text,
            formatter: ({ value }: { value: unknown }) =>
              `×${Number(value)
                .toPrecision(3)
                .replace(/\.?0+$/, "")}`,
          },
          markLine: {
            symbol: "none",
            lineStyle: { color: ink.axis.light, type: "dashed" },
            label: { ...text, formatter: "linear", position: "end" },
            data: [{ xAxis: linear }],
          },
        },
      ],
    },
    // On a phone a label takes up to three lines.
    { width, height: 50 + bars.length * (width < WIDE.width ? 46 : 30) },
  );
}

/** Sizes whose labels stay apart on a logarithmic axis; the last one is always among them. */
export function ticksThatFit(sizes: readonly number[], width: number): number[] {
  const sorted = [...new Set(sizes)].sort((a, b) => b - a);
  const span = Math.log(sorted[0]!) - Math.log(sorted.at(-1)!) || 1;
  const place = (members: number) => ((Math.log(members) - Math.log(sorted.at(-1)!)) / span) * width;
  const kept: number[] = [];
  for (const members of sorted) {
    const next = kept.at(-1);
    const letters = formatCount(members).length + formatCount(next ?? 0).length;
    if (next === undefined || place(next) - place(members) > (letters / 2) * 7 + 6) kept.push(members);
  }
  return kept.reverse();
}

let drawn = 0;

function draw(option: Readonly<Record<string, unknown>>, size: Size): string {
  const chart = init(null, null, { renderer: "svg", ssr: true, ...size });
  try {
    chart.setOption({ animation: false, textStyle: { fontFamily: FONT }, ...option });
    return tidy(chart.renderToSVGString({ useViewBox: true }));
  } finally {
    chart.dispose();
  }
}

/** Takes out what only a script would use, and makes ids unique on a page and the same for the same chart. */
function tidy(svg: string): string {
  const own = `c${drawn++}`;
  return svg
    .replace(/<style >.*?<\/style>\n?/gs, "")
    .replace(/ (?:class="[^"]*"|ecmeta_\w+="[^"]*"|pointer-events="[^"]*"|xml:space="[^"]*")/g, "")
    .replace(/ (?:xmlns:xlink="[^"]*"|version="1.1"|baseProfile="full")/g, "")
    .replace(/\bzr\d+-c(\d+)\b/g, `${own}-$1`)
    .replace(/<rect [^>]*fill="none"><\/rect>\n/, "")
    .replace(/<svg width="\d+" height="\d+"/, "<svg");
}

/** Begins the numbering of ids anew, before a page is made. */
export function resetChartIds(): void {
  drawn = 0;
}
