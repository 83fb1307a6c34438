/**
 * The home folder of one device: `client.db` (encrypted), `settings.json` (where the service is), `key` (unless
 * a passphrase unlocks the database) and `lock.db`. One process at a time works in it.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { type Bytes, fromHex, toHex, zeroize } from "@murmuration/base";
import {
  type Client,
  type ClientSettings,
  connectTo,
  keyFromPassphrase,
  openClient,
  openSqlcipher,
  type Storage,
  type Transport,
} from "@murmuration/client-core";
import type { CommandContext } from "./command.ts";
import { warnOfDecisions } from "./decisions.ts";
import { CommandFailed } from "./failures.ts";

const DEFAULT_SERVER = "http://127.0.0.1:8080";

/** Groups move by themselves when they are this part of the threshold away from it, as with the default settings. */
const MARGIN_PART = 16;

/** Commands end soon: of handles that a pause keeps apart for longer most would wait for the next one. */
const PUSH_SPREAD_MS = 2_000;

/** What `settings.json` holds. */
export interface ProfileSettings {
  /** Origin of the delivery service. */
  readonly server: string;
  /** Members from which on groups are over MLS; by hand, to see a move to MLS with a few people. */
  readonly mlsThreshold?: number;
}

const homeOf = ({ options, surroundings }: CommandContext): string =>
  options.text("home") ?? surroundings.home;
const settingsPath = (home: string): string => join(home, "settings.json");
const databasePath = (home: string): string => join(home, "client.db");

/** Makes the home folder and says which service it belongs to; what exists stays. For `register`. */
export async function createProfile(context: CommandContext): Promise<void> {
  const home = homeOf(context);
  const asked = context.options.text("server");
  mkdirSync(home, { recursive: true, mode: 0o700 });
  if (existsSync(settingsPath(home))) {
    const { server } = readSettings(home);
    if (asked !== undefined && asked !== server) {
      throw new CommandFailed(`This home folder belongs to ${server} already: choose another with --home.`);
    }
    return;
  }
  const server = asked ?? context.surroundings.server ?? DEFAULT_SERVER;
  // Throws for an address that cannot be one, before anything is written.
  connectTo(server).close();
  writeSettings(home, { server });
}

function writeSettings(home: string, settings: ProfileSettings): void {
  const temporary = `${settingsPath(home)}.new`;
  writeFileSync(temporary, `${JSON.stringify(settings)}\n`, { mode: 0o600, flush: true });
  renameSync(temporary, settingsPath(home));
}

function readSettings(home: string): ProfileSettings {
  let parsed: unknown;
  try {
    parsed = JSON.parse(readFileSync(settingsPath(home), "utf8"));
  } catch {
    throw new CommandFailed("There is no account in this home folder; see murmuration register.");
  }
  const { server, mlsThreshold } = (parsed ?? {}) as { server?: unknown; mlsThreshold?: unknown };
  const isThreshold =
    mlsThreshold === undefined || (Number.isInteger(mlsThreshold) && (mlsThreshold as number) >= 2);
  if (typeof server !== "string" || !isThreshold)
    throw new CommandFailed("settings.json in the home folder is damaged.");
  return mlsThreshold === undefined ? { server } : { server, mlsThreshold: mlsThreshold as number };
}

/**
 * Opens the client of the home folder, runs `work`, and closes everything whatever happens. What a person has to decide is
 * said meanwhile: on standard error, or as `warn` shows it.
 */
export async function withClient<T>(
  context: CommandContext,
  work: (client: Client, settings: ProfileSettings) => Promise<T>,
  warn = (line: string): void => void context.terminal.errors.write(`${line}\n`),
): Promise<T> {
  const home = homeOf(context);
  const settings = readSettings(home);
  const unlock = lockHome(home);
  try {
    const client = await openHome(home, settings, context.options.text("passphrase-file"));
    const stopWarning = warnOfDecisions(client, warn);
    try {
      return await work(client, settings);
    } finally {
      await client.close();
      stopWarning();
    }
  } finally {
    unlock();
  }
}

async function openHome(
  home: string,
  settings: ProfileSettings,
  passphraseFile: string | undefined,
): Promise<Client> {
  const transport: Transport = connectTo(settings.server);
  let storage: Storage | undefined;
  try {
    const key = passphraseFile === undefined ? keyFile(home) : passphraseKey(home, passphraseFile);
    storage = openSqlcipher({ path: databasePath(home), key });
    zeroize(key);
    return await openClient({ storage, transport, settings: clientSettings(settings) });
  } catch (error) {
    storage?.close();
    transport.close();
    throw error;
  }
}

/** Where the threshold is another one, a group begins to move as near to it, in proportion. */
function clientSettings({ mlsThreshold }: ProfileSettings): Partial<ClientSettings> {
  const pushSpreadMs = PUSH_SPREAD_MS;
  return mlsThreshold === undefined
    ? { pushSpreadMs }
    : { pushSpreadMs, mlsThreshold, migrationMargin: Math.floor(mlsThreshold / MARGIN_PART) };
}

function passphraseKey(home: string, file: string): Bytes {
  let passphrase: string;
  try {
    passphrase = readFileSync(file, "utf8").split(/\r?\n/, 1)[0] ?? "";
  } catch (error) {
    throw new CommandFailed(`The passphrase file cannot be read (${(error as NodeJS.ErrnoException).code}).`);
  }
  if (passphrase === "") throw new CommandFailed("The first line of the passphrase file is empty.");
  return keyFromPassphrase(databasePath(home), passphrase);
}

/** The key beside the database: it protects copies of the database, not the folder. */
function keyFile(home: string): Bytes {
  const path = join(home, "key");
  if (!existsSync(path)) {
    if (existsSync(databasePath(home))) {
      throw new CommandFailed("The database of this home folder opens with --passphrase-file.");
    }
    const temporary = `${path}.new`;
    writeFileSync(temporary, `${toHex(randomBytes(32))}\n`, { mode: 0o600, flush: true });
    renameSync(temporary, path);
  }
  return fromHex(readFileSync(path, "utf8").trim());
}

/**
 * Two processes on one database would use the same ratchet keys twice. The lock is SQLite's own on a file of
 * its own: the system drops it when the process ends, however it ends.
 */
function lockHome(home: string): () => void {
  const lock = new DatabaseSync(join(home, "lock.db"));
  try {
    lock.exec("BEGIN EXCLUSIVE");
  } catch {
    lock.close();
    throw new CommandFailed("Another murmuration process is at work in this home folder.");
  }
  return () => lock.close();
}
