import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

interface Address {
  readonly host: string;
  readonly port: number;
}

/** A way to a port of this machine that can go silent: connections stay, and nothing passes any more. */
export interface SilentRelay {
  readonly port: number;
  silence(): void;
  /** New connections pass again; silent ones stay so. */
  restore(): void;
  /** New connections go there. */
  leadTo(target: Address): void;
  /** Ends the connections that there are. */
  cut(): void;
  dispose(): Promise<void>;
}

export async function openSilentRelay(address: Address): Promise<SilentRelay> {
  let target = address;
  const sockets = new Set<Socket>();
  let isSilent = false;
  const server = createServer((near) => {
    const far = connect(target);
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => {
        sockets.delete(socket);
        // Whoever is silent does not even say that it is gone.
        if (!isSilent) other.destroy();
      });
    }
    if (isSilent) return;
    near.pipe(far);
    far.pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return {
    port: (server.address() as { readonly port: number }).port,
    silence: () => {
      isSilent = true;
      for (const socket of sockets) socket.unpipe().pause();
    },
    restore: () => {
      isSilent = false;
    },
    leadTo: (next) => {
      target = next;
    },
    cut: () => {
      for (const socket of sockets) socket.destroy();
    },
    dispose: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
}
