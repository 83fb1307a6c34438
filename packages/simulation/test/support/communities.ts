/** What the stories about communities share. */
import { DatabaseSync } from "node:sqlite";
import type { Conversation, Storage } from "@murmuration/client-core";
import { introduce, type SimulatedDevice, textsOf, until, type World } from "../../src/index.ts";

/** Small groups over MLS, so that a story needs few people. */
export const small = { mlsThreshold: 3, keyPackageStock: 4 } as const;
export const PATIENCE_MS = 40_000;

export async function flock<const Names extends readonly string[]>(
  world: World,
  ...names: Names
): Promise<{ [K in keyof Names]: SimulatedDevice }> {
  const devices: SimulatedDevice[] = [];
  for (const name of names) devices.push(await world.join(name, { settings: small }));
  await introduce(...devices);
  return devices as { [K in keyof Names]: SimulatedDevice };
}

export const on = (device: SimulatedDevice, group: string): Conversation =>
  device.client.conversations.get(group)!;

/** Members with their roles, as this device has them. */
export const membersOf = (device: SimulatedDevice, group: string): readonly string[] =>
  (device.client.conversations.get(group)?.members() ?? [])
    .map((member) => `${member.accountId}/${member.role}`)
    .sort();

export const countOf = (device: SimulatedDevice, group: string, text: string): number =>
  textsOf(device.client, group).filter((line) => line === text).length;

/** What every member has to have alike. */
function viewOf(device: SimulatedDevice, group: string): string {
  const conversation = device.client.conversations.get(group);
  if (conversation?.state !== "active") return `${conversation?.state} on ${device.path}`;
  return JSON.stringify([
    conversation.title,
    conversation.expireAfterSeconds,
    membersOf(device, group),
    conversation.community.settings(),
  ]);
}

/** Waits until these devices have the same title, members, roles and settings. */
export async function agree(
  devices: readonly SimulatedDevice[],
  group: string,
  what = "",
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const views = () => devices.map((device) => viewOf(device, group));
  await until(() => new Set(views()).size === 1, patienceMs, `agreement ${what}`).catch((error: Error) => {
    throw new Error(`${error.message}\n${views().join("\n")}`);
  });
}

/** Each of them says something, and each of them has it exactly once: they are in one epoch with the same secrets. */
export async function hearEachOther(
  devices: readonly SimulatedDevice[],
  group: string,
  word: string,
  patienceMs = PATIENCE_MS,
): Promise<void> {
  const texts = devices.map((_, index) => `${word}, member ${index}`);
  await Promise.all(devices.map((device, index) => on(device, group).send({ text: texts[index]! })));
  await until(
    () => devices.every((device) => texts.every((text) => countOf(device, group, text) > 0)),
    patienceMs,
    `everybody hears: ${word}`,
  );
  for (const device of devices) requireNoneTwice(device, group);
}

export function requireNoneTwice(device: SimulatedDevice, group: string): void {
  const texts = textsOf(device.client, group);
  const twice = texts.filter((text, index) => texts.indexOf(text) !== index);
  if (twice.length > 0) throw new Error(`twice in one history: ${twice.join(", ")}`);
}

/** Reads a device's database beside its client: pass `keep` as `wrapStorage`. */
export class Peephole {
  private storage: Storage | undefined;

  readonly keep = (storage: Storage): Storage => {
    this.storage = storage;
    return storage;
  };

  count(table: string): number {
    return this.storage!.get(`SELECT count(*) AS n FROM ${table}`)!["n"] as number;
  }

  /** What is begun and not done: pending commits, jobs, claimed KeyPackages, Welcomes, ciphertexts under way. */
  unfinished(): Readonly<Record<string, number>> {
    const tables = [
      "mls_commit",
      "mls_job",
      "mls_claimed",
      "mls_welcome",
      "mls_part WHERE shown_at IS NULL",
      "mls_join",
    ];
    return Object.fromEntries(
      tables.map((table) => [table, this.count(table)] as const).filter(([, count]) => count > 0),
    );
  }
}

/** Waits until a device has nothing of its communities left to do. */
export async function nothingLeft(peephole: Peephole): Promise<void> {
  await until(() => Object.keys(peephole.unfinished()).length === 0, PATIENCE_MS).catch(() => {
    throw new Error(`left behind: ${JSON.stringify(peephole.unfinished())}`);
  });
}

export interface LogEntry {
  readonly sequence: number;
  readonly kind: "application" | "proposal" | "commit" | "void";
  readonly leadsFrom: number | null;
}

/** The log of a group, read from the file of the service while it runs. */
export function logOf(world: { readonly serviceDirectory: string }, group: string): readonly LogEntry[] {
  const database = new DatabaseSync(`${world.serviceDirectory}/delivery-service.sqlite`, { readOnly: true });
  try {
    return database
      .prepare(
        `SELECT sequence, kind, leads_from AS leadsFrom FROM mls_entries JOIN mls_groups USING (mls_group)
           WHERE group_id = ? ORDER BY sequence`,
      )
      .all(Buffer.from(group, "base64url"))
      .map((row) => ({ ...row }) as unknown as LogEntry);
  } finally {
    database.close();
  }
}

export const commitsIn = (world: { readonly serviceDirectory: string }, group: string): number =>
  logOf(world, group).filter(({ kind }) => kind === "commit").length;
