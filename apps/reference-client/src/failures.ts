/** From an error to one sentence and an exit code. */
import { MurmurationError, UnavailableError, UsageError } from "@murmuration/base";
import { isRejectionCode, rejections } from "@murmuration/wire";
import { WrongUsage } from "./arguments.ts";

export const EXIT_FAILED = 1;
const EXIT_WRONG_USAGE = 2;
const EXIT_UNREACHABLE = 3;

/** A command cannot do what was asked; the message is one sentence for the user. */
export class CommandFailed extends Error {
  readonly exitCode: number;
  constructor(sentence: string, exitCode: number = EXIT_FAILED) {
    super(sentence);
    this.exitCode = exitCode;
  }
}

const sentences: Readonly<Record<string, string>> = {
  "conversation/not-active":
    "Nothing can be sent in this conversation: it was left, removed or blocked, or waits to be accepted.",
  "conversation/text-too-long": "The text is too long for one message.",
  "conversation/outbox-full": "Too many messages wait for the delivery service in this conversation.",
  "attachment/too-large": "The file is too large for this.",
  "contact/fingerprint-mismatch":
    "The card is of another identity key than the delivery service shows: one of them is not the contact's.",
  "contact/nothing-to-decide": "The identity key of this contact is the one that was known before.",
  "contact/other-number": "The new identity key of this contact has another safety number: do not accept it.",
  "conversation/not-a-group": "This conversation is not a group.",
  "conversation/id-taken": "This is the id of another conversation of this device, and cannot be both.",
  "link/approval-pending":
    "An admin has to approve first; the next command that connects after that joins the community.",
  "link/refused": "An admin has refused that you join.",
  "link/malformed": "This is no invite link.",
  "link/bad-expiry": "A link lets people in for some time, a year at most, or until it is revoked.",
  "group/not-an-admin": "Only owners and admins of the group can do this.",
  "migration/already-switched": "The group has moved to MLS already, and never goes back.",
  "migration/not-started":
    "The group is pairwise and has not begun to move to MLS; see group migration --start.",
  "migration/not-the-creator":
    "Only the device that prepares the move can end the waiting; group migration shows whose it is.",
  "migration/too-many-role-holders":
    "A group over MLS has at most 50 owners and admins: make some plain members.",
  "migration/not-added": "Could not be put into the MLS group yet; it is tried again.",
  "migration/not-joined": "Has not joined the MLS group yet: the app has to be opened there.",
  "migration/away": "Has not been heard of for 30 days; nobody waits for that.",
  "migration/left-behind": "Was not in the MLS group when it switched: the app has to be opened there.",
  "migration/invited": "Is invited and has not accepted; nobody waits for that.",
  "certificate/refused":
    "The delivery service's certificate for this device is not valid by this machine's clock, or not the service's.",
  "key-packages/unlisted-device":
    "The delivery service offers a device that the account does not list: it was removed, or never was the account's.",
  "key-packages/none": "Has left no keys by which a device could be added: the app has to be opened there.",
  "outbox/still-waiting": "The delivery service cannot be reached; the message stays in the outbox.",
  "transport/unreachable": "The delivery service cannot be reached.",
  "server/cannot-listen": "The address or port cannot be listened on: it is taken, or not this machine's.",
  "store/postgres-unreachable": "PostgreSQL cannot be reached, or refuses the user; see murmuration doctor.",
  "store/redis-unreachable": "Redis cannot be reached, or refuses the user; see murmuration doctor.",
  "redis/too-old": "This Redis is too old: version 7 or newer is needed; see murmuration doctor.",
  "redis/append-only-off":
    "Redis keeps no append-only file and would lose mailboxes; see murmuration doctor.",
  "redis/append-fsync-not-always":
    "Redis answers before what it accepted is on the disk: it needs appendfsync always; see murmuration doctor.",
  "redis/no-fsync-on-rewrite":
    "Redis does not wait for its disk while it rewrites its file: it needs no-appendfsync-on-rewrite no; see murmuration doctor.",
  "redis/eviction-on":
    "Redis drops mailboxes when its memory is full: it needs maxmemory-policy noeviction; see murmuration doctor.",
  "redis/append-only-failing": "Redis cannot write its append-only file: look at its log and its disk.",
  "redis/settings-hidden":
    "Redis does not tell whether it keeps what it accepts: let its user run INFO and CONFIG GET; see murmuration doctor.",
  "store/not-there": "There is no store yet where the configuration says; nodes make it when they start.",
  "store/other-schema":
    "The store was made by another version of the service: start a node of this version, or use that version.",
  "admin/short-key": "The file of the label key holds fewer than 16 bytes.",
  "store/newer-schema": "A newer version of the service has used this store; run that version.",
};

/** A stable code in one sentence, with the code. */
export function explainCode(code: string): string {
  const sentence =
    sentences[code] ?? (isRejectionCode(code) ? rejections[code].sentence : "This was refused.");
  return `${sentence} (${code})`;
}

export interface Failure {
  readonly sentence: string;
  readonly exitCode: number;
}

/** What main prints and exits with. An error of no known kind is a bug and keeps its stack. */
export function explain(error: unknown): Failure {
  if (error instanceof WrongUsage) return { sentence: error.message, exitCode: EXIT_WRONG_USAGE };
  if (error instanceof CommandFailed) return { sentence: error.message, exitCode: error.exitCode };
  // Configuration is the operator's writing, and its errors are made to be read.
  if (error instanceof UsageError && error.code.startsWith("config/")) {
    return { sentence: error.message.slice(error.code.length + 2), exitCode: EXIT_WRONG_USAGE };
  }
  if (error instanceof UnavailableError) {
    const sentence = sentences[error.code] ?? "The delivery service cannot be reached.";
    return { sentence: `${sentence} (${error.code})`, exitCode: EXIT_UNREACHABLE };
  }
  if (error instanceof MurmurationError) return { sentence: explainCode(error.code), exitCode: EXIT_FAILED };
  return {
    sentence: error instanceof Error ? (error.stack ?? error.message) : String(error),
    exitCode: EXIT_FAILED,
  };
}
