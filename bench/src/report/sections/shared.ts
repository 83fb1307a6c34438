import { type Html, html } from "../html.ts";

/** The report's own sentences on what was and was not counted. */
export function definitionList(sentences: readonly string[]): Html | undefined {
  if (sentences.length === 0) return undefined;
  return html`<details><summary>What is in these figures, and what is not</summary>
<ul>${sentences.map((sentence) => html`<li>${sentence}</li>`)}</ul></details>
`;
}
