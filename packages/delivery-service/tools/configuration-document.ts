/** Writes the table of keys into docs/operations.md: `npm run configuration -w packages/delivery-service`. */
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type ConfigKey, configKeys, environmentName } from "../src/config-keys.ts";

const path = new URL("../../../docs/operations.md", import.meta.url);
const BEGIN = "<!-- generated: configuration -->\n";
const END = "\n<!-- end of configuration -->";

/** Every key, in the order of the code. */
export function renderConfigurationTable(): string {
  const rows = Object.entries<ConfigKey<never>>(configKeys as never).map(
    ([name, { kind, fallback, meaning, secret }]) => {
      const shown = kind.show(fallback);
      const takes = `${kind.takes}${secret ? "; a secret" : ""}`;
      return `| \`${name}\` | \`${environmentName(name)}\` | ${shown === "" ? "" : `\`${shown}\``} | ${meaning} | ${takes} |`;
    },
  );
  return ["| key | variable | default | meaning | takes |", "| --- | --- | --- | --- | --- |", ...rows].join(
    "\n",
  );
}

/** Puts the table between its markers. Throws if one is missing. */
export function withConfigurationTable(document: string): string {
  const [from, to] = [document.indexOf(BEGIN), document.indexOf(END)];
  if (from < 0 || to < from) throw new Error("docs/operations.md has no place for the table of keys");
  return document.slice(0, from + BEGIN.length) + renderConfigurationTable() + document.slice(to);
}

/** The document as it is. */
export function readOperationsDocument(): string {
  return readFileSync(path, "utf8");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(path, withConfigurationTable(readOperationsDocument()));
}
