import { type Command, jsonOption } from "../command.ts";
import { json, table } from "../output.ts";
import { configOption, deliveryService } from "./serve.ts";

const UNHEALTHY = 1;

export const doctor: Command = {
  path: ["doctor"],
  summary: "Checks engines, versions, settings, clocks and limits before a node is started on them.",
  operands: [],
  homeless: true,
  options: { ...configOption, ...jsonOption },
  notes:
    "Changes nothing. Exit: 0 nothing failed, 1 something did, 2 the configuration is wrong. The limit of open files is\n" +
    "that of this command: run it where the service runs. Disks of engines on other machines cannot be seen from here.",
  async run({ options, print }) {
    const { examine, readConfig } = await deliveryService();
    const findings = await examine(readConfig({ path: options.text("config") }));
    if (options.flag("json")) for (const finding of findings) print(json(finding));
    else {
      const rows = findings.map(({ status, check, found }) => [status, check, found]);
      print(table(["", "check", "found"], rows));
      for (const { check, status, fix } of findings) if (status !== "ok") print(`\n${check}: ${fix}`);
    }
    return findings.some(({ status }) => status === "fail") ? UNHEALTHY : 0;
  },
};
