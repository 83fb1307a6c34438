import { parseAddress } from "@murmuration/base";
import { RedisClient, type RedisCommands, type Script } from "../../src/adapters/redis-client.ts";
import { RedisMailboxStore } from "../../src/adapters/redis-mailboxes.ts";

/**
 * Appends one submit and is killed when the script with this number is about to be sent (`before`) or was answered
 * (`after`). A process of its own for a test: SIGKILL, no handler runs.
 */
const [url, prefix, when, number, submitHash, ...recipients] = process.argv.slice(2) as [
  string,
  string,
  "before" | "after",
  string,
  string,
  ...string[],
];

class DyingRedis implements RedisCommands {
  readonly prefix: string;
  private readonly client: RedisClient;
  private scripts = 0;

  constructor(client: RedisClient) {
    this.client = client;
    this.prefix = client.prefix;
  }

  call(command: string, ...args: Parameters<RedisClient["call"]> extends [string, ...infer A] ? A : never) {
    return this.client.call(command, ...args);
  }

  async run(script: Script, keys: readonly string[], ...args: readonly (string | number | Uint8Array)[]) {
    // Not one of the submit's: whether the store is still the same is looked at in between.
    const mine = script.name !== "store-id" && this.scripts++ === Number(number);
    // What was sent before reaches Redis: the fate of this one alone is tried.
    if (mine && when === "before") await this.client.call("PING").then(die);
    const answer = await this.client.run(script, keys, ...args);
    if (mine) die();
    return answer;
  }

  onReconnect() {}
  repeat() {}
}

function die(): void {
  process.kill(process.pid, "SIGKILL");
}

/** A store without sweeps of its own: their scripts would be counted. */
class QuietStore extends RedisMailboxStore {
  override async sweep() {}
}

const redis = await RedisClient.open({ url, prefix });
const mailboxes = new QuietStore(new DyingRedis(redis));
const outcome = await mailboxes.append({
  submitHash: new Uint8Array(Buffer.from(submitHash, "hex")),
  envelopes: recipients.map((recipient) => ({
    recipient: parseAddress(recipient),
    ciphertext: new Uint8Array(100).fill(7),
    source: undefined,
  })),
  acceptedAtMs: 1_800_000_000_000,
  limits: { maxEnvelopes: 1_000, maxBytes: 1_000_000 },
});
process.send!(outcome.kind);
await redis.close();
process.disconnect();
