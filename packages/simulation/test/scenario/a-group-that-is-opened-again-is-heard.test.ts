import type { Transport } from "@murmuration/client-core";
import { expect, test } from "vitest";
import type { Context } from "../../../client-core/src/shell/context.ts";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { PATIENCE_MS } from "../support/communities.ts";
import { allShow, flockOf, inGroup, newcomer } from "../support/flock.ts";

type Send = Parameters<NonNullable<Parameters<Transport["connect"]>[0]>["frame"]>;
type Treatment = "pass" | "keep" | "refuse" | "cut";

/** More than a service sends a connection before the first of it is acknowledged. */
const MANY = 450;

/** The way of one client to the service, on which a frame is kept, answered by an overloaded service, or the last one. */
class Unsteady {
  treat: (kind: string) => Treatment = () => "pass";
  private readonly kept: (() => void)[] = [];
  isDown = false;

  /** What was kept goes on its way. */
  letGo(): void {
    this.treat = () => "pass";
    for (const send of this.kept.splice(0)) send();
  }

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: async (...[handlers, timeoutMs]: Parameters<Transport["connect"]>) => {
        await until(() => !this.isDown, PATIENCE_MS);
        const socket = await transport.connect(handlers, timeoutMs);
        const send: typeof socket.send = (frame) => {
          const { kind } = frame.body;
          const treatment = this.treat(kind);
          if (treatment === "pass") socket.send(frame);
          if (treatment === "keep") this.kept.push(() => socket.send(frame));
          if (treatment === "refuse") {
            const body = {
              kind: "rejection",
              code: "service/overloaded",
              action: "retry-later",
              retryAfterMs: 200,
            };
            queueMicrotask(() => handlers.frame({ requestId: frame.requestId, body } as Send[0]));
          }
          if (treatment === "cut") {
            this.isDown = true;
            socket.close();
          }
        };
        return Object.assign(Object.create(socket) as typeof socket, { send });
      },
    });
}

interface Insides {
  readonly context: Context;
  readonly communities: {
    openingOf(id: Uint8Array, work: () => Promise<void>): void;
    rejoin(id: Uint8Array): Promise<void>;
    reopen(id: Uint8Array): Promise<void>;
  };
}

const insidesOf = ({ client }: SimulatedDevice) => client as unknown as Insides;

async function three(world: World) {
  const way = new Unsteady();
  const all = [
    await newcomer(world, "Alice"),
    await newcomer(world, "Bob"),
    await newcomer(world, "Carol", {
      wrapTransport: way.wrapTransport,
      settings: { requestTimeoutMs: 60_000 },
    }),
  ] as const;
  const group = await flockOf(...all);
  await group.send({ text: "hello" });
  await allShow(all, group.id, "hello");
  const [alice, bob, carol] = all;
  const { context } = insidesOf(carol);
  const { id } = context.mls.groups()[0]!;
  return { alice, bob, carol, all, group, way, id, context };
}

test("whoever enters anew when the connection breaks, and others commit meanwhile, is back in", async () => {
  await using world = await World.start();
  const { all, carol, context, group, id, way } = await three(world);
  let commits = 0;
  way.treat = (kind) => (kind === "groupCommit" && commits++ === 0 ? "cut" : "pass");
  const healed = inGroup(carol, group.id)!
    .community.heal()
    .catch(() => undefined);
  await until(() => way.isDown, PATIENCE_MS, "the connection breaks");
  await group.setExpiry(1_000_000);
  way.isDown = false;
  await healed;
  await until(() => context.mls.group(id)?.state === "active", PATIENCE_MS, "Carol is in");
  await group.send({ text: "after" });
  await allShow(all, group.id, "after");
}, 60_000);

test("whoever enters anew when the service has no time for it hears what comes then, however much came before", async () => {
  await using world = await World.start();
  const { alice, all, carol, context, group, id, way } = await three(world);
  let hasNoTime = true;
  way.treat = (kind) => (kind === "groupInfoRequest" && hasNoTime ? "refuse" : "pass");
  // As the log does where it cannot be followed.
  context.transaction(() => context.mls.setState(id, "stuck"));
  const { communities } = insidesOf(carol);
  communities.openingOf(id, () => communities.rejoin(id));
  for (let n = 0; n < MANY; n++) await group.send({ text: `before ${n}` });
  await alice.client.outbox.settled();
  hasNoTime = false;
  await until(() => context.mls.group(id)?.state === "active", PATIENCE_MS, "Carol is in");
  await group.send({ text: "after" });
  await allShow(all, group.id, "after");
}, 90_000);

test("a group that is made when the service has no time to open it is opened all the same", async () => {
  await using world = await World.start();
  const { bob, carol, way } = await three(world);
  let accesses = 0;
  way.treat = (kind) => (kind === "groupAccess" && accesses++ === 0 ? "refuse" : "pass");
  const settings = { title: "Second", members: [bob.id], protocol: "mls" } as const;
  const made = carol.client.conversations.createGroup(settings);
  await expect(made).rejects.toThrow("service/overloaded");
  const second = () => bob.client.conversations.list().find(({ title }) => title === "Second");
  await until(() => second() !== undefined, PATIENCE_MS, "Bob is in the second group");
  expect(accesses).toBeGreaterThan(1);
}, 60_000);

test("a group that is opened once more while much comes in is heard when that was taken in", async () => {
  await using world = await World.start();
  const { alice, all, carol, context, group, id, way } = await three(world);
  way.treat = (kind) => (kind === "groupAccess" ? "keep" : "pass");
  const opened = insidesOf(carol).communities.reopen(id);
  for (let n = 0; n < MANY; n++) await group.send({ text: `meanwhile ${n}` });
  await alice.client.outbox.settled();
  await until(
    () => context.mls.group(id)!.cursor > MANY,
    PATIENCE_MS,
    "all of it came over the stream before",
  );
  // From where it stood before, as it was asked for.
  way.letGo();
  await opened;
  await group.send({ text: "after" });
  await allShow(all, group.id, "after");
}, 90_000);
