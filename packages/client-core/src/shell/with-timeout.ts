import { UnavailableError } from "@murmuration/base";
import type { Context } from "./context.ts";

/** Given as the reason, it spares an error with its stack for each wait that comes to its end. */
const OVER = "over";

/**
 * Waits until `done` holds, looking again at each `change`. Rejects with UnavailableError `late` after the time, and
 * `client/closing` when the client closes.
 */
export async function withTimeout(
  context: Context,
  timeoutMs: number,
  late: string,
  wait: { readonly done: () => boolean; readonly change: (abort: AbortSignal) => Promise<void> },
): Promise<void> {
  if (wait.done()) return;
  const finished = new AbortController();
  const abort = AbortSignal.any([finished.signal, context.closing.signal]);
  const timeout = context.environment.sleep(timeoutMs, abort).then(() => "late" as const);
  try {
    for (;;) {
      if (context.closing.signal.aborted) throw new UnavailableError("client/closing");
      const woken = await Promise.race([wait.change(abort), timeout]);
      if (wait.done()) return;
      if (woken === "late") throw new UnavailableError(late);
    }
  } finally {
    finished.abort(OVER);
  }
}
