/**
 * One look for each protocol and implementation, the same in every chart. Shapes and dashes tell lines apart without
 * colour, in print and for who sees fewer colours.
 */
export interface Look {
  readonly light: string;
  readonly dark: string;
  readonly dash: readonly number[];
  readonly symbol: "circle" | "rect" | "triangle" | "diamond" | "emptyCircle" | "emptyRect";
}

const looks: Readonly<Record<string, Look>> = {
  pairwise: { light: "#a63d00", dark: "#ff9d66", dash: [], symbol: "rect" },
  "pairwise-sealed": { light: "#b07200", dark: "#ffc857", dash: [7, 3], symbol: "triangle" },
  "sender-key-sealed": { light: "#7b3fb8", dark: "#c9a0ff", dash: [2, 3], symbol: "diamond" },
  "mls-warm": { light: "#0a63c4", dark: "#6cb6ff", dash: [], symbol: "circle" },
  "mls-cold": { light: "#00796f", dark: "#4fd6c4", dash: [10, 3, 2, 3], symbol: "emptyCircle" },
  murmuration: { light: "#0a63c4", dark: "#6cb6ff", dash: [], symbol: "circle" },
  "ts-mls": { light: "#a63d00", dark: "#ff9d66", dash: [7, 3], symbol: "triangle" },
  "ts-mls-native": { light: "#7b3fb8", dark: "#c9a0ff", dash: [2, 3], symbol: "diamond" },
  floor: { light: "#5c6470", dark: "#a9b1bd", dash: [3, 3], symbol: "emptyRect" },
};

/** For series that no name was given a look: peers that are added later. */
const others: readonly Look[] = [
  { light: "#b3246b", dark: "#ff8fc0", dash: [5, 2], symbol: "emptyRect" },
  { light: "#4d6b00", dark: "#b5d94a", dash: [1, 2], symbol: "rect" },
  { light: "#2b4a6f", dark: "#9fc1ea", dash: [8, 2], symbol: "emptyCircle" },
];

/** The look of a series by its name; the position matters for unknown names only. */
export function lookOf(name: string, position: number): Look {
  return (Object.hasOwn(looks, name) ? looks[name] : undefined) ?? others[position % others.length]!;
}

/** Ink of everything in a chart that is no series. */
export const ink = {
  text: { light: "#2a2f36", dark: "#e4e7eb" },
  axis: { light: "#737b86", dark: "#8f98a4" },
  grid: { light: "#e3e6ea", dark: "#333a43" },
  band: { light: "#f5e6a8", dark: "#4a431c" },
  /** Inside a hollow symbol. */
  paper: { light: "#fff", dark: "#14171b" },
} as const;

/** Rules that turn a chart drawn in light colours dark; a rule of CSS outranks an attribute of SVG. */
export function darkRules(scope: string): string {
  const pairs = [...Object.values(looks), ...others, ...Object.values(ink)];
  const rules = pairs.flatMap(({ light, dark }) =>
    ["fill", "stroke"].map((attribute) => `${scope}[${attribute}="${light}"]{${attribute}:${dark}}`),
  );
  return [...new Set(rules)].join("");
}
