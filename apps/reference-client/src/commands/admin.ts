import { randomBytes } from "node:crypto";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import type { HealthOrder, openHealth } from "@murmuration/delivery-service";
import { limits } from "@murmuration/wire";
import type { Options } from "../arguments.ts";
import { type Command, jsonOption } from "../command.ts";
import { CommandFailed } from "../failures.ts";
import { json, table } from "../output.ts";
import { configOption, deliveryService } from "./serve.ts";

const DAY_MS = 86_400_000;
const ORDERS = ["stale", "age", "stragglers", "entries", "outbox"] as const satisfies readonly HealthOrder[];
const BESIDE = "Reads the store beside running nodes and changes nothing.";

type Health = Awaited<ReturnType<typeof openHealth>>;

async function reading<T>(options: Options, work: (health: Health) => Promise<T>): Promise<T> {
  const { openHealth, readConfig } = await deliveryService();
  const health = await openHealth(readConfig({ path: options.text("config") }));
  try {
    return await work(health);
  } finally {
    await health.close();
  }
}

/** The key of the labels: of this run alone, or of a file, which is made when it is not there. */
function labelKey(path: string | undefined): Uint8Array<ArrayBuffer> {
  if (path === undefined) return new Uint8Array(randomBytes(32));
  try {
    if (!existsSync(path)) writeFileSync(path, randomBytes(32), { mode: 0o600, flag: "wx" });
    return new Uint8Array(readFileSync(path));
  } catch {
    throw new CommandFailed("The file of the label key can neither be read nor made.");
  }
}

export const adminGroups: Command = {
  path: ["admin", "groups"],
  summary: "Lists MLS groups with their health, worst first, under labels that name nobody.",
  operands: [],
  homeless: true,
  options: {
    ...configOption,
    sort: { value: "ORDER", help: `by ${ORDERS.join(", ")} (default: stale)`, oneOf: ORDERS },
    limit: { value: "N", help: "how many (default: 50)", between: [1, 100_000] },
    days: { value: "N", help: "commits of how many days are counted (default: 7)", between: [1, 30] },
    behind: {
      value: "N",
      help: "a leaf that is more entries behind is a straggler (default: 1000)",
      between: [1, 1_000_000],
    },
    "label-key": { value: "FILE", help: "labels stay the same from run to run; made when it is not there" },
    ...jsonOption,
  },
  notes:
    `${BESIDE}\n` +
    "stale: commits that came too late, of all since then. age: since the newest commit. readers: leaves that ever\n" +
    "acknowledged. left: leaves whose next entry has expired; they have to come in from outside. low\n" +
    `stock: leaves of devices with fewer than ${limits.keyPackagesLow} KeyPackages that are good; they can soon be added to nothing more.`,
  async run({ options, print }) {
    const now = Date.now();
    const sort = ORDERS.find((order) => order === options.text("sort")) ?? "stale";
    const found = await reading(options, (health) =>
      health.groups({
        order: sort,
        limit: options.integer("limit") ?? 50,
        sinceDay: Math.floor(now / DAY_MS) - (options.integer("days") ?? 7) + 1,
        stragglerEntries: options.integer("behind") ?? 1_000,
        keyPackagesBelow: limits.keyPackagesLow,
        nowMs: now,
      }),
    );
    const { labelled } = await deliveryService();
    const groups = labelled(found, labelKey(options.text("label-key")));
    if (options.flag("json")) {
      for (const group of groups) print(json(group));
      return 0;
    }
    const names = [
      "label",
      "epoch",
      "age",
      "stale",
      "commits",
      "entries",
      "readers",
      "stragglers",
      "left",
      "low stock",
      "proposals",
      "welcomes",
    ];
    const rows = groups.map((group) => [
      group.label,
      group.epoch,
      group.epochSinceMs === undefined ? "-" : age(now - group.epochSinceMs),
      share(group.lostCommits, group.commits + group.lostCommits),
      group.commits,
      group.entries,
      group.readers,
      group.stragglers,
      group.leftBehind,
      group.lowStock ?? "-",
      group.proposals,
      group.welcomes,
    ]);
    print(
      groups.length === 0
        ? "no MLS groups"
        : table(
            names,
            rows.map((row) => row.map(String)),
          ),
    );
    return 0;
  },
};

export const adminKeyPackages: Command = {
  path: ["admin", "key-packages"],
  summary: "Counts devices whose KeyPackages run out.",
  operands: [],
  homeless: true,
  options: { ...configOption, ...jsonOption },
  notes: `${BESIDE}\nCounted are all devices that ever uploaded some: whose device is in which group is not looked into.`,
  async run({ options, print }) {
    const { keyPackagesLow } = limits;
    const stock = await reading(options, (health) => health.keyPackages(keyPackagesLow, Date.now()));
    if (options.flag("json")) print(json(stock));
    else {
      const rows = [stock.devices, stock.low, stock.lastResortOnly, stock.none].map(String);
      print(table(["devices", `below ${keyPackagesLow}`, "last resort only", "none"], [rows]));
    }
    return 0;
  },
};

export const adminRetention: Command = {
  path: ["admin", "retention"],
  summary: "Shows when each retention job ran, what it removed, and what is kept too long.",
  operands: [],
  homeless: true,
  options: { ...configOption, ...jsonOption },
  notes: `${BESIDE}\nExit: 1 where something is overdue. Within an hour of a run nothing is.`,
  async run({ options, print }) {
    const jobs = await reading(options, (health) => health.retention());
    if (options.flag("json")) for (const job of jobs) print(json(job));
    else {
      const rows = jobs.map(({ job, ranAtMs, removed, overdue }) => [
        job,
        ranAtMs === undefined ? "never" : new Date(ranAtMs).toISOString().slice(0, 19),
        String(removed),
        overdue === undefined ? "-" : String(overdue),
      ]);
      print(table(["job", "ran (UTC)", "removed", "overdue"], rows));
    }
    return jobs.some(({ overdue = 0 }) => overdue > 0) ? 1 : 0;
  },
};

function age(ms: number): string {
  const minutes = Math.max(0, Math.floor(ms / 60_000));
  if (minutes < 60) return `${minutes} min`;
  return minutes < 48 * 60 ? `${Math.floor(minutes / 60)} h` : `${Math.floor(minutes / 1440)} d`;
}

function share(part: number, all: number): string {
  return all === 0 ? "-" : `${((100 * part) / all).toFixed(1)} %`;
}
