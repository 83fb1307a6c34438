import { setTimeout as delay } from "node:timers/promises";
import { UnavailableError } from "@murmuration/base";
import type { Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { Harness } from "../../src/harness.ts";
import { introduce, seededRandom } from "../../src/index.ts";
import { on } from "../support/communities.ts";
import { movable, movers, pairwiseGroup, requireMoved, Talk, untilIn } from "../support/moves.ts";

const RANDOM_ROUNDS = process.env["SLOW"] === "1" ? 20 : 3;

/** Tells of each request and frame of a client, as it leaves and as its answer comes. */
class Witness {
  private watched: { readonly name: string; readonly see: () => void } | undefined;

  /** Resolves with the next one of this name. */
  next(name: string): Promise<void> {
    return new Promise((see) => {
      this.watched = { name, see };
    });
  }

  private note(name: string): void {
    if (this.watched === undefined || !name.startsWith(this.watched.name)) return;
    this.watched.see();
    this.watched = undefined;
  }

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => {
      const socket = await transport.connect(handlers, timeoutMs);
      return {
        send: (frame) => {
          socket.send(frame);
          this.note(frame.body.kind);
        },
        close: () => socket.close(),
        get bytesSent() {
          return socket.bytesSent;
        },
        get bytesReceived() {
          return socket.bytesReceived;
        },
      };
    },
    request: (request) => {
      const answer = transport.request(request);
      this.note(`${request.method} ${request.path}`);
      return answer;
    },
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });
}

/** Asks again until the service is there to say yes. */
async function insist(work: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await work();
      return;
    } catch (error) {
      if (!(error instanceof UnavailableError)) throw error;
      await delay(100);
    }
  }
}

// The fault that this finds: a step whose answer is lost, and that is not known again as one's own; or a service that has
// one half of a step after its restart, the record or the state of the migration.
test("the service is killed at each step of a move, and at random: the move ends, and all is there once, in order", async () => {
  const random = seededRandom();
  console.log(`SEED=${random.seed}`);
  await using harness = await Harness.start();
  const witness = new Witness();
  const [bob, carol] = await movers(harness, ["Bob", "Carol"]);
  const alice = await harness.join("Alice", { settings: movable, wrapTransport: witness.wrapTransport });
  const everybody = [alice, bob, carol];
  await introduce(...everybody);

  async function tell(name: string, killWhen: () => Promise<void>): Promise<void> {
    const { id } = await pairwiseGroup(alice, [bob, carol], name);
    const talk = new Talk(id);
    for (const device of everybody) await talk.say(device, "before");
    await talk.heardBy(everybody);
    const moment = killWhen();
    const started = insist(() => on(alice, id).migrate("start"));
    for (const device of everybody) await talk.say(device, "meanwhile");
    await moment;
    await delay(random.below(4));
    await harness.killService();
    for (const device of everybody) await talk.say(device, "without a service");
    await delay(random.below(100));
    await harness.startService();
    await started;
    await requireMoved(everybody, id, name);
    await talk.heardBy(everybody);
    await untilIn(everybody, id, () => on(alice, id).migration?.state === "mls", "the record is done");
    expect(on(alice, id).migration?.generation).toBe(1);
  }

  /** The nth frame or request of this name from the start of the move on. */
  const after = (name: string, count: number) => async () => {
    for (let n = 0; n < count; n++) await witness.next(name);
  };
  await tell("prepare", after("PUT /v1/groups", 1));
  await tell("creating the MLS group", after("groupCreate", 1));
  await tell("adding", after("groupCommit", 1));
  await tell("ready", after("PUT /v1/groups", 2));
  await tell("switching commit", after("groupCommit", 2));
  await tell("switch", after("PUT /v1/groups", 3));
  await tell("done", after("PUT /v1/groups", 4));
  for (let round = 0; round < RANDOM_ROUNDS; round++)
    await tell(`random ${round}`, () => delay(random.below(1_200)));
}, 300_000);
