import { once } from "node:events";
import { connect, createServer } from "node:net";

/** Whether something accepts connections there. Resolves within a second. */
export async function answers(port: number, host = "127.0.0.1"): Promise<boolean> {
  const socket = connect({ host, port });
  socket.setTimeout(1_000, () => socket.destroy(new Error("timeout")));
  try {
    await once(socket, "connect");
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}

/** Waits until it does. Rejects after `timeoutMs`, or as soon as `gaveUp` resolves with a reason. */
export async function untilAnswers(port: number, timeoutMs: number, gaveUp?: Promise<string>): Promise<void> {
  const until = Date.now() + timeoutMs;
  let reason: string | undefined;
  void gaveUp?.then((given) => {
    reason = given;
  });
  while (!(await answers(port))) {
    if (reason !== undefined) throw new Error(reason);
    if (Date.now() > until) throw new Error(`nothing answers on port ${port}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** A port that is free now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { readonly port: number };
  server.close();
  await once(server, "close");
  return port;
}
