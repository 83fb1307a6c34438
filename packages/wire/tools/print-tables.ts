/** Prints the tables of docs/wire-protocol.md that come from code, to be pasted there. */
import { limitTable, rejectionTable, routeTable } from "./tables.ts";

for (const table of [routeTable(), limitTable(), rejectionTable()]) console.log(`${table}\n`);
