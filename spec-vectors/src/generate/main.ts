/** `npm run generate -w spec-vectors`: writes every known-answer file; the same bytes each time. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { fileText, generators } from "./files.ts";

const folder = resolve(fileURLToPath(import.meta.url), "../../../known-answers");
mkdirSync(folder, { recursive: true });
let total = 0;
for (const [name, generate] of Object.entries(generators)) {
  const text = fileText(await generate());
  writeFileSync(join(folder, `${name}.json`), text);
  total += text.length;
  console.log(`${name}: ${text.length} bytes`);
}
console.log(`${total} bytes`);
