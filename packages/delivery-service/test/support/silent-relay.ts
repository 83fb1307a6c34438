import { once } from "node:events";
import { connect, createServer, type Socket } from "node:net";

/** A way to a port of this machine that can go silent: connections stay, and nothing passes any more. */
export interface SilentRelay {
  readonly port: number;
  silence(): void;
  /** New connections pass again; silent ones stay so. */
  restore(): void;
  dispose(): Promise<void>;
}

export async function openSilentRelay(target: { readonly host: string; readonly port: number }) {
  const sockets = new Set<Socket>();
  let isSilent = false;
  const server = createServer((near) => {
    const far = connect(target);
    for (const socket of [near, far]) {
      sockets.add(socket);
      socket.on("error", () => {});
      socket.on("close", () => sockets.delete(socket));
    }
    if (isSilent) return;
    near.pipe(far);
    far.pipe(near);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const relay: SilentRelay = {
    port: (server.address() as { readonly port: number }).port,
    silence: () => {
      isSilent = true;
      for (const socket of sockets) socket.unpipe().pause();
    },
    restore: () => {
      isSilent = false;
    },
    dispose: async () => {
      server.close();
      for (const socket of sockets) socket.destroy();
      await once(server, "close");
    },
  };
  return relay;
}
