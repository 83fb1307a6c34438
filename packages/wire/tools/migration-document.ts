/** Writes the parts of docs/migration.md that come from the table of transitions: `npm run migration -w packages/wire`. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { renderMigrationDiagram, renderMigrationTable } from "../src/migration.ts";

const path = new URL("../../../docs/migration.md", import.meta.url);

/** Puts what the code says between the markers of a document. Throws if a marker is missing. */
export function withMigrationTables(document: string): string {
  const parts = {
    diagram: `\`\`\`mermaid\n${renderMigrationDiagram()}\n\`\`\``,
    transitions: renderMigrationTable(),
  };
  return Object.entries(parts).reduce((text, [name, part]) => {
    const [begin, end] = [`<!-- generated: ${name} -->\n`, `\n<!-- end of ${name} -->`];
    const [from, to] = [text.indexOf(begin), text.indexOf(end)];
    if (from < 0 || to < from) throw new Error(`docs/migration.md has no place for ${name}`);
    return text.slice(0, from + begin.length) + part + text.slice(to);
  }, document);
}

/** The document as it is. */
export function readMigrationDocument(): string {
  return readFileSync(path, "utf8");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(path, withMigrationTables(readMigrationDocument()));
}
