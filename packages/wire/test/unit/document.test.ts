import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { limitTable, rejectionTable, routeTable } from "../../tools/tables.ts";

const document = readFileSync(new URL("../../../../docs/wire-protocol.md", import.meta.url), "utf8");

test.each([
  ["routes", routeTable()],
  ["limits", limitTable()],
  ["rejections", rejectionTable()],
])("docs/wire-protocol.md lists the %s that the code has", (_, table) => {
  for (const line of table.split("\n")) expect(document).toContain(`${line}\n`);
});
