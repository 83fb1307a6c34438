import type { Socket, SocketHandlers, Transport } from "@murmuration/client-core";
import type { ClientFrame } from "@murmuration/wire";
import { expect, test } from "vitest";
import { type SimulatedDevice, until, World } from "../../src/index.ts";
import { agree, countOf, flock, hearEachOther, on, PATIENCE_MS } from "../support/communities.ts";

/** A link that can keep a client's next commit back, and then let nothing through to the client any more. */
class Stall {
  private armed = false;
  private deaf = false;
  private kept: (() => void) | undefined;

  get keeps(): boolean {
    return this.kept !== undefined;
  }

  arm(): void {
    this.armed = true;
  }

  /** The commit goes on; its client hears nothing, and its process may as well hang. */
  letGoAndHang(): void {
    this.deaf = true;
    this.kept?.();
  }

  readonly wrapTransport = (transport: Transport): Transport => ({
    ...transport,
    origin: transport.origin,
    connect: async (handlers, timeoutMs) => {
      const hearing: SocketHandlers = {
        frame: (frame) => {
          if (!this.deaf) handlers.frame(frame);
        },
        closed: () => handlers.closed(),
      };
      return this.wrapSocket(await transport.connect(hearing, timeoutMs));
    },
    request: (request) => transport.request(request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => transport.close(),
  });

  private wrapSocket(socket: Socket): Socket {
    return {
      send: (frame: ClientFrame) => {
        const keep = this.armed && frame.body.kind === "groupCommit";
        if (!keep) {
          socket.send(frame);
          return;
        }
        this.armed = false;
        this.kept = () => socket.send(frame);
      },
      close: () => socket.close(),
      get bytesSent() {
        return socket.bytesSent;
      },
      get bytesReceived() {
        return socket.bytesReceived;
      },
    };
  }
}

/** Alice has lost a race and has the turn now, for five seconds, and does nothing. */
async function scene(world: World) {
  const [alice, bob, carol, dave] = await flock(world, "Alice", "Bob", "Carol", "Dave");
  const members = [bob.id, carol.id, dave.id];
  const { id } = await alice.client.conversations.createGroup({ title: "Flock", members });
  const others: readonly SimulatedDevice[] = [bob, carol, dave];
  await until(() => others.every((device) => on(device, id)?.title === "Flock"), PATIENCE_MS);
  await on(alice, id).setRole(bob.id, "admin");
  await agree([alice, ...others], id);
  await alice.stop();
  const stall = new Stall();
  await alice.start({ wrapTransport: stall.wrapTransport });
  await alice.client.connection.caughtUp();
  stall.arm();
  const lost = on(alice, id)
    .setRole(carol.id, "admin")
    .catch(() => undefined);
  await until(() => stall.keeps, PATIENCE_MS);
  await on(bob, id).setExpiry(60);
  stall.letGoAndHang();
  await new Promise((resolve) => setTimeout(resolve, 100));
  const end = async () => {
    await alice.stop();
    await lost;
  };
  return { bob, carol, dave, others, id, end };
}

test("others commit when the turn of a member that hangs is over", async () => {
  await using world = await World.start();
  const { bob, others, id, end } = await scene(world);
  await on(bob, id).setExpiry(120);
  expect(bob.client.communityCosts.refusedSubmits, "it had to wait").toBeGreaterThan(0);
  await agree(others, id);
  await hearEachOther(others, id, "afterwards");
  await end();
});

// The fault that this finds: a member that enters anew tries sixteen times within a moment instead of waiting for its turn,
// and stays outside until it happens to connect again.
test("a member enters anew when the turn of another one that hangs is over", async () => {
  await using world = await World.start();
  const { carol, dave, others, id, end } = await scene(world);
  await Promise.all([on(carol, id).community.heal(), on(dave, id).community.heal()]);
  await agree(others, id);
  await hearEachOther(others, id, "afterwards");
  expect(countOf(carol, id, "afterwards, member 0")).toBe(1);
  await end();
});
