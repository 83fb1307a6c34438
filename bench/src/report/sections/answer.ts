/** The conclusion at the top of the page, computed by `conclude`. */
import { ABOVE, BELOW, conclude, formatBreakEven, THRESHOLD_MEMBERS } from "../conclusion.ts";
import { type Html, html } from "../html.ts";
import { table } from "../parts.ts";
import type { Report } from "../schema.ts";
import { formatCount } from "../units.ts";
import { nameOfProtocol } from "../words.ts";

const payloadWords = (payloadBytes: number): string => `${formatCount(payloadBytes)} bytes`;

export function answerSection(report: Report): Html | undefined {
  const { payloads, profiles } = conclude(report);
  if (payloads.length === 0 && profiles.length === 0) return undefined;
  const threshold = formatCount(THRESHOLD_MEMBERS);
  const answers = payloads.map(
    ({
      payloadBytes,
      summary,
    }) => html`<div class="answer"><h3>Is ${threshold} members the right threshold for messages of ${payloadWords(payloadBytes)}?</h3>
<ul>${summary.map((sentence) => html`<li>${sentence}</li>`)}</ul></div>
`,
  );
  const days =
    profiles.length === 0
      ? undefined
      : html`<div class="answer wide"><h3>And over a day?</h3><ul>${profiles.map((sentence) => html`<li>${sentence}</li>`)}</ul></div>
`;
  const crossings = table({
    caption: "Where pairwise and MLS cross, by payload and cost",
    header: ["cost of one message", ...payloads.map(({ payloadBytes }) => payloadWords(payloadBytes))],
    wordColumns: payloads.map((_, i) => i + 1),
    rows: (payloads[0]?.measures ?? []).map(({ measure }, i) => [
      measure.title,
      ...payloads.map(({ measures }) => measures[i]!.words),
    ]),
  });
  const groups = new Map(
    payloads.flatMap(({ breakEven: all }) =>
      all.map((each) => [`${each.members} ${each.protocol}`, each] as const),
    ),
  );
  const breakEven = [...groups.values()].map(({ members, protocol }) => [
    formatCount(members),
    nameOfProtocol(protocol),
    ...payloads.flatMap((payload) => {
      const found = payload.breakEven.find((each) => each.members === members && each.protocol === protocol);
      return found === undefined
        ? [undefined, undefined]
        : [formatBreakEven(found.bytes), formatBreakEven(found.cpu)];
    }),
  ]);
  return html`<p>Compared are what Murmuration does below ${threshold} members (${nameOfProtocol(BELOW)}) and from there on (${nameOfProtocol(ABOVE)}). A crossing lies between two measured sizes; where exactly was not measured. CPU counts as different only where the spreads of the runs do not overlap; where there was one run, its figures are taken as they are.</p>
<div class="answers">
${answers}${days}</div>
${
  payloads.length === 0
    ? undefined
    : html`<h3>Where pairwise and MLS cross</h3>
${crossings}
`
}${
  breakEven.length === 0
    ? undefined
    : html`<h3>How many messages pay for one join and one leave</h3>
<p class="soft">How much has to be written between one join and leave and the next for MLS to cost less than pairwise in total. Bytes are those on all sockets, CPU is that of sender, service, newcomer and every receiver.</p>
${table({
  caption: "Messages that pay for one join and one leave",
  textColumns: [1],
  header: [
    "members",
    "protocol",
    ...payloads.flatMap(({ payloadBytes }) => [
      `by bytes, messages of ${payloadWords(payloadBytes)}`,
      `by CPU, messages of ${payloadWords(payloadBytes)}`,
    ]),
  ],
  rows: breakEven,
})}
`
}`;
}
