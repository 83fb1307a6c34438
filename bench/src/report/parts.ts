/** What the sections are made of: tables, and charts with a legend and a table beside them. */
import {
  type Bar,
  type LineChartSpecification,
  lineChart,
  NARROW,
  ratioChart,
  type Series,
  WIDE,
} from "./chart.ts";
import { Html, html } from "./html.ts";
import { ink, type Look, lookOf } from "./palette.ts";

/** A cell: text, markup, or nothing where nothing was measured. */
export type Cell = string | Html | undefined;

export interface TableSpecification {
  /** Read aloud before the table; the text around it says the same to who sees it. */
  readonly caption: string;
  readonly header: readonly string[];
  /** The first cell of each row is its heading. */
  readonly rows: readonly (readonly Cell[])[];
  /** Columns that hold names. */
  readonly textColumns?: readonly number[];
  /** Columns that hold sentences. */
  readonly wordColumns?: readonly number[];
}

/** More columns than these fit on paper in small letters only. */
const MANY_COLUMNS = 9;

const NOT_MEASURED = html`<td class="none"><span aria-hidden="true">–</span><span class="visually-hidden">not measured</span></td>`;

export function table({
  caption,
  header,
  rows,
  textColumns = [],
  wordColumns = [],
}: TableSpecification): Html {
  const kind = (column: number): Html | undefined => {
    if (wordColumns.includes(column)) return html` class="words"`;
    return textColumns.includes(column) ? html` class="text"` : undefined;
  };
  const head = header.map((title, column) => html`<th scope="col"${kind(column)}>${title}</th>`);
  const many = header.length > MANY_COLUMNS ? html` class="many"` : undefined;
  const body = rows.map(([first, ...cells]) => {
    const rest = cells.map((cell, i) => {
      if (cell === undefined) return NOT_MEASURED;
      return html`<td${kind(i + 1)}>${cell}</td>`;
    });
    return html`<tr><th scope="row">${first}</th>${rest}</tr>
`;
  });
  return html`<div class="scroll" tabindex="0" role="region" aria-label="${caption}"><table${many}><caption>${caption}</caption>
<thead><tr>${head}</tr></thead>
<tbody>
${body}</tbody></table></div>`;
}

/** A figure with what it scattered between in small letters below. */
export const withNote = (figure: string, note: string): Html => html`${figure}<small>${note}</small>`;

function sample({ light, dash, symbol }: Look): Html {
  const hollow = symbol.startsWith("empty");
  const fill = hollow ? ink.paper.light : light;
  const shapes: Readonly<Record<string, Html>> = {
    rect: html`<path d="M13 2h8v8h-8z" fill="${fill}" stroke="${light}" stroke-width="1.5"/>`,
    triangle: html`<path d="M17 1.5l4.5 8.5h-9z" fill="${fill}" stroke="${light}"/>`,
    diamond: html`<path d="M17 1l5 5-5 5-5-5z" fill="${fill}" stroke="${light}"/>`,
    circle: html`<circle cx="17" cy="6" r="4" fill="${fill}" stroke="${light}" stroke-width="1.5"/>`,
  };
  const shape = shapes[symbol.replace("empty", "").toLowerCase()];
  return html`<svg viewBox="0 0 34 12" aria-hidden="true"><path d="M0 6H34" stroke="${light}" stroke-width="2" stroke-dasharray="${dash.join(" ")}" fill="none"/>${shape}</svg>`;
}

function legend(series: readonly Pick<Series, "name" | "label">[]): Html {
  const items = series.map(
    ({ name, label }, i) => html`<li>${sample(lookOf(name, i))}<span>${label}</span></li>
`,
  );
  return html`<ul class="legend">
${items}</ul>`;
}

/** The same chart in the width of a column and in that of a phone; the style sheet shows one of them. */
function chart(description: string, wide: string, narrow: string): Html {
  return html`<div class="chart" role="img" aria-label="${description}">
<div class="wide">${new Html(wide)}</div>
<div class="narrow">${new Html(narrow)}</div>
</div>`;
}

interface FigureText {
  readonly title: string;
  readonly note?: string | undefined;
  readonly table: Html;
  /** The table has too many columns to stand beside the chart. */
  readonly tableBelow?: boolean;
}

/** A chart of costs over members beside its table; without two sizes there is no line, and the table stands alone. */
export function lineFigure(text: FigureText, specification: LineChartSpecification): Html {
  const { title, note } = text;
  const drawable = specification.series.filter(({ points }) => points.some(([, cost]) => cost > 0));
  const caption = html`<figcaption><h3>${title}</h3>${note === undefined ? undefined : html`<p>${note}</p>`}</figcaption>`;
  if (drawable.length === 0 || specification.sizes.length < 2) {
    return html`<figure>${caption}${text.table}</figure>
`;
  }
  const description = `${title}: a line for each of ${drawable.map(({ label }) => label).join("; ")}, over the number of members, both axes logarithmic. The table beside it holds the same figures.`;
  const picture = chart(description, lineChart(specification, WIDE), lineChart(specification, NARROW));
  return html`<figure${text.tableBelow ? undefined : html` class="pair"`}>${caption}
<div>${legend(drawable)}${picture}</div>
${text.table}</figure>
`;
}

/** Ratios as bars beside their table. */
export function ratioFigure(text: FigureText, bars: readonly Bar[], linear: number): Html {
  const description = `${text.title}: one bar for each cost. The table beside it holds the same figures.`;
  const picture = chart(
    description,
    ratioChart(bars, linear, WIDE.width),
    ratioChart(bars, linear, NARROW.width),
  );
  return html`<figure class="pair"><figcaption><h3>${text.title}</h3>${text.note === undefined ? undefined : html`<p>${text.note}</p>`}</figcaption>
${picture}
${text.table}</figure>
`;
}
