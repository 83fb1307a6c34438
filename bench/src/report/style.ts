import { darkRules } from "./palette.ts";

/**
 * The page's only style sheet. One column that becomes two where a chart and its table fit side by side; light and
 * dark by the reader's own setting; on paper always light, with every table whole.
 */
const rules = `
:root{color-scheme:light dark;--text:#1c2127;--soft:#59626e;--line:#d6dae0;--paper:#fff;--raised:#f5f6f8;--accent:#0a63c4;--warn:#fff3cd;--warn-line:#c79a00;--good:#1c7a3d;--bad:#b3261e}
*{box-sizing:border-box}
html{-webkit-text-size-adjust:100%;scroll-padding-top:1rem}
body{margin:0 auto;max-width:80rem;padding:1.25rem 1rem 4rem;background:var(--paper);color:var(--text);font:1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;overflow-wrap:break-word}
h1{font-size:1.75rem;line-height:1.2;margin:.25rem 0 .5rem}
h2{font-size:1.35rem;line-height:1.3;margin:3rem 0 .5rem;padding-top:.75rem;border-top:1px solid var(--line)}
h3{font-size:1.05rem;line-height:1.35;margin:1.75rem 0 .4rem}
p,ul,dl{max-width:46rem}
a{color:var(--accent)}
.soft,figcaption p,small{color:var(--soft)}
small{display:block;font-size:.75rem;line-height:1.3;white-space:nowrap}
nav ul{display:flex;flex-wrap:wrap;gap:.25rem 1rem;list-style:none;padding:0;margin:1rem 0;max-width:none}
nav a{display:inline-block;padding:.35rem 0}
.banner{background:var(--warn);border-left:.3rem solid var(--warn-line);padding:.75rem 1rem;margin:1rem 0;max-width:46rem}
.answers{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr));gap:1rem;margin:1rem 0}
.answer{background:var(--raised);border-left:.3rem solid var(--accent);padding:.25rem 1rem .75rem}
.answer.wide{grid-column:1/-1}
.answer strong{display:block}
.answer h3{margin-top:.75rem}
.answer ul{padding-left:1.1rem;margin:.25rem 0}
.answer li{margin:.35rem 0}
figure{margin:1.75rem 0 0;display:grid;grid-template-columns:minmax(0,1fr);gap:.5rem 2rem}
figcaption h3{margin:0}
figcaption p{margin:.15rem 0 0;font-size:.92rem}
.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.1rem;list-style:none;padding:0;margin:.5rem 0 0;font-size:.85rem;max-width:none}
.legend li{display:flex;align-items:center;gap:.4rem}
.legend svg{width:34px;height:12px;flex:none}
.chart{min-width:0}
.chart svg{display:block;width:100%;height:auto}
.chart .wide{display:none;max-width:620px}
.tables{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,27rem),1fr));gap:0 2rem}
.tables>*{min-width:0}
.scroll{position:relative;overflow-x:auto;width:fit-content;max-width:100%;min-width:0;border:1px solid var(--line);border-radius:.4rem}
.scroll:focus-visible,a:focus-visible,summary:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
table{border-collapse:separate;border-spacing:0;font-size:.85rem;font-variant-numeric:tabular-nums}
caption{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
th,td{padding:.35rem .6rem;text-align:right;vertical-align:top;border-top:1px solid var(--line);white-space:nowrap}
thead th{border-top:0;white-space:normal;vertical-align:bottom;min-width:4.4rem;background:var(--raised);font-weight:600}
tbody th,thead th:first-child{position:sticky;left:0;z-index:1;text-align:left;font-weight:600;background:var(--paper);border-right:1px solid var(--line)}
tbody th{white-space:normal;min-width:3.6rem;max-width:14rem}
thead th:first-child{background:var(--raised);min-width:3.6rem}
.text{text-align:left}
.words{text-align:left;white-space:normal}
td.words{min-width:13rem}
td.none{color:var(--soft)}
td.good,.good{color:var(--good)}
td.bad,.bad{color:var(--bad);font-weight:600}
.visually-hidden{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap}
details{margin:1.25rem 0;border:1px solid var(--line);border-radius:.4rem;padding:0 1rem}
details[open]{padding-bottom:1rem}
summary{cursor:pointer;padding:.7rem 0;font-weight:600}
dl{display:grid;grid-template-columns:minmax(7rem,max-content) minmax(0,1fr);gap:.25rem 1rem}
dt{color:var(--soft)}
dd{margin:0}
@media (min-width:40rem){.chart .wide{display:block}.chart .narrow{display:none}}
@media (min-width:64rem){
figure.pair{grid-template-columns:minmax(0,620px) minmax(0,1fr);align-items:start}
figure.pair figcaption{grid-column:1/-1}
tbody th{white-space:nowrap;max-width:none}
}
`;

const dark = `:root{--text:#e4e7eb;--soft:#a5adb8;--line:#343b45;--paper:#14171b;--raised:#1d2228;--accent:#6cb6ff;--warn:#3b3210;--warn-line:#e0b93b;--good:#6fd08c;--bad:#ff8a80}`;

const print = `@media print{
@page{margin:14mm 12mm}
.answers{display:block}
.tables{grid-template-columns:repeat(2,minmax(0,1fr))}
.answer{margin:.6rem 0}
body{padding:0;max-width:none;font-size:10pt}
nav{display:none}
h2{break-after:avoid;margin-top:1.5rem}
h3,figcaption,summary{break-after:avoid}
figcaption{break-inside:avoid}
.chart,.answer,.tables>*,tr{break-inside:avoid}
.chart{max-width:125mm}
.chart .wide{display:block}.chart .narrow{display:none}
figure{display:block}
figure>*{margin-top:.4rem}
figure>div:has(.chart){break-inside:avoid}
figure .legend{break-after:avoid}
.scroll{overflow:visible;border:0}
table{font-size:7.5pt}
table.many{font-size:6pt}
table.many :is(th,td){padding:.1rem .2rem}
th,td{padding:.15rem .35rem;white-space:normal}
thead th{min-width:0}
tbody th,thead th:first-child{position:static;min-width:0}
td.words{min-width:0}
small{white-space:normal;font-size:.85em}
thead{display:table-header-group}
.page{break-before:page}
details{border:0;padding:0}
details::details-content{content-visibility:visible;block-size:auto}
}`;

export const styleSheet = `${rules.trim()}
@media screen and (prefers-color-scheme:dark){${dark}${darkRules("svg ")}}
${print}`;
