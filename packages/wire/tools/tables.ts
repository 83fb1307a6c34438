/** The tables of docs/wire-protocol.md that come from code: printed here, compared with the document by a test. */
import { type Limits, limits, type RejectionCode, rejections, routes } from "../src/index.ts";
import type { MessageType } from "../src/shape.ts";

type Body = MessageType<unknown> | "blob" | "text" | undefined;
const bodyName = (body: Body): string =>
  body === undefined ? "-" : typeof body === "string" ? body : `\`${body.name}\``;

export function routeTable(): string {
  const rows = Object.values(routes).map(
    ({ method, path, auth, request, reply }) =>
      `| \`${method} ${path}\` | ${auth} | ${bodyName(request)} | ${bodyName(reply)} |`,
  );
  return ["| request | authorisation | body | answer |", "| --- | --- | --- | --- |", ...rows].join("\n");
}

export function limitTable(values: Limits = limits): string {
  const { rates, ...sizes } = values;
  const rows = Object.entries(sizes).map(([name, value]) => `| ${name} | ${value.toLocaleString("en-US")} |`);
  const buckets = Object.entries(rates).map(
    ([name, { burst, perMinute }]) =>
      `| ${name} | ${burst.toLocaleString("en-US")} at once, ${perMinute.toLocaleString("en-US")} a minute |`,
  );
  return ["| limit | value |", "| --- | --- |", ...rows, ...buckets].join("\n");
}

export function rejectionTable(): string {
  const rows = (Object.keys(rejections) as RejectionCode[]).map((code) => {
    const row = rejections[code];
    const closes = "closes" in row ? "yes" : "";
    return `| \`${code}\` | ${row.action} | ${row.status} | ${closes} | ${row.sentence} |`;
  });
  const head = ["| code | action | HTTP | closes the socket | |", "| --- | --- | --- | --- | --- |"];
  return [...head, ...rows].join("\n");
}
