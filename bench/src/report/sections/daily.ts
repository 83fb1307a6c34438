/** Totals of a day for each profile, with what was assumed above them. */
import { type Html, html } from "../html.ts";
import { table } from "../parts.ts";
import type { Profile, Report } from "../schema.ts";
import { formatBytes, formatCount, formatMicroseconds } from "../units.ts";
import { nameOfProtocol } from "../words.ts";

export function dailySection(report: Report): Html | undefined {
  const { daily } = report;
  if (daily === undefined || daily.rows.length === 0) return undefined;
  return html`<p>Sums over measured rows of exactly this size and payload. How much is written and how many come and go is assumed; nothing else is.</p>
${daily.profiles.map((profile) => profileTable(report, profile))}`;
}

function profileTable(report: Report, profile: Profile): Html | undefined {
  const rows = (report.daily?.rows ?? []).filter((row) => row.profile === profile.name);
  if (rows.length === 0) return undefined;
  return html`<h3>A ${profile.name}: ${formatCount(profile.members)} members</h3>
<ul class="soft">${profile.assumptions.map((sentence) => html`<li>${sentence}</li>`)}</ul>
${table({
  caption: `A day of a ${profile.name} by protocol`,
  header: [
    "protocol",
    "member uploads",
    "member downloads",
    "member CPU",
    "service takes in",
    "service stores",
    "service sends out",
    "service CPU",
    "of it for joins and leaves: sent out",
    "of it for joins and leaves: member CPU",
  ],
  rows: rows.map((row) => [
    nameOfProtocol(row.protocol),
    formatBytes(row.memberUploadBytes),
    formatBytes(row.memberDownloadBytes),
    formatMicroseconds(row.memberCpuUs),
    formatBytes(row.dsIngressBytes),
    formatBytes(row.dsStoredBytes),
    formatBytes(row.dsEgressBytes),
    formatMicroseconds(row.dsCpuUs),
    formatBytes(row.churnEgressBytes),
    formatMicroseconds(row.churnMemberCpuUs),
  ]),
})}
`;
}
