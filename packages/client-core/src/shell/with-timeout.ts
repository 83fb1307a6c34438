import { UnavailableError } from "@murmuration/base";
import type { Context } from "./context.ts";

/**
 * Waits until `done` holds, looking again at each `change`. Rejects with `late` after the time, and with
 * UnavailableError `client/closing` when the client closes.
 */
export async function withTimeout(
  context: Context,
  timeoutMs: number,
  late: UnavailableError,
  wait: { readonly done: () => boolean; readonly change: (abort: AbortSignal) => Promise<void> },
): Promise<void> {
  const finished = new AbortController();
  const abort = AbortSignal.any([finished.signal, context.closing.signal]);
  const timeout = context.environment.sleep(timeoutMs, abort).then(() => "late" as const);
  try {
    while (!wait.done()) {
      if (context.closing.signal.aborted) throw new UnavailableError("client/closing");
      if ((await Promise.race([wait.change(abort), timeout])) === "late" && !wait.done()) throw late;
    }
  } finally {
    finished.abort();
  }
}
