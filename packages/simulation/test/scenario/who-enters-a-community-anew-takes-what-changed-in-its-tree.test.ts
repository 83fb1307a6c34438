import { deflateRawSync } from "node:zlib";
import { encode } from "@murmuration/base";
import type { HttpReply, HttpRequest, Transport } from "@murmuration/client-core";
import { encodeRejection } from "@murmuration/wire";
import { expect, test } from "vitest";
import { until, World } from "../../src/index.ts";
import { agree, countOf, flock, hearEachOther, on, PATIENCE_MS } from "../support/communities.ts";

type Answer = (request: HttpRequest, reply: HttpReply) => HttpReply;

/** A link that notes which trees are asked for, and may answer otherwise than the service. */
class TreeTap {
  readonly asked: string[] = [];
  answer: Answer = (_, reply) => reply;

  readonly wrap = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: (handlers, timeoutMs) => transport.connect(handlers, timeoutMs),
    request: async (request) => {
      const reply = await transport.request(request);
      if (!request.path.startsWith("/v1/trees/")) return reply;
      this.asked.push(request.path.includes("/from/") ? "changes" : "whole");
      return this.answer(request, reply);
    },
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });
}

const compressed = (...changes: readonly Uint8Array[]): Uint8Array<ArrayBuffer> =>
  new Uint8Array(
    deflateRawSync(encode(changes, (writer, list) => writer.vector(list, (inner, one) => inner.bytes(one)))),
  );

/**
 * Bob's database is put back to an old copy, and he had said something since, behind which others have come and gone: as soon
 * as he finds that in the log he enters the community anew.
 */
async function story(answer?: Answer): Promise<readonly string[]> {
  await using world = await World.start();
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const { id } = await alice.client.conversations.createGroup({
    title: "Flock",
    members: [bob.id, carol.id],
  });
  await until(() => [bob, carol].every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await bob.client.outbox.settled();
  await bob.stop();
  const restore = bob.saveCopy();
  await bob.start();
  await bob.client.connection.caughtUp();
  await on(bob, id).send({ text: "since the copy" });
  await bob.client.outbox.settled();
  await bob.stop();
  await on(alice, id).add([dave.id]);
  await on(alice, id).remove(carol.id);
  restore();

  const tap = new TreeTap();
  if (answer !== undefined) tap.answer = answer;
  await bob.start({ wrapTransport: tap.wrap });
  await on(bob, id).send({ text: "after the restore" });
  const everybody = [alice, bob, dave];
  await until(() => countOf(alice, id, "after the restore") === 1, PATIENCE_MS, "Bob has entered anew");
  await agree(everybody, id);
  await hearEachOther(everybody, id, "in the end");
  return tap.asked;
}

test("a device that has an older tree of the community downloads what the commits since have changed, and not the whole", async () => {
  const asked = await story();
  expect(asked.length).toBeGreaterThan(0);
  expect(new Set(asked)).toEqual(new Set(["changes"]));
});

/** Answers that belong to changes of a tree; of the tree itself the service says what it will. */
const toChanges =
  (answer: (reply: HttpReply) => HttpReply): Answer =>
  (request, reply) =>
    request.path.includes("/from/") ? answer(reply) : reply;

test.each([
  ["has not kept that epoch", { status: 404, body: encodeRejection("trees/unknown") }],
  ["says that nothing has changed", { body: compressed() }],
  ["says that something else has changed", { body: compressed(Uint8Array.of(1, 0, 0, 0, 4)) }],
  ["answers with rubbish", { body: Uint8Array.of(1, 2, 3) }],
])("where the service %s the whole tree is fetched", async (_, other) => {
  const asked = await story(toChanges((reply) => ({ ...reply, ...other })));
  expect(asked.slice(0, 2)).toEqual(["changes", "whole"]);
});
