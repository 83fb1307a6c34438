import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** What this process still holds in buffers, bytes, once garbage is gone, that of stories before this one too. */
export function heldBytes(): number {
  // A buffer's memory is given back behind the collection that finds it: the second waits for the first.
  collect();
  collect();
  return process.memoryUsage().arrayBuffers;
}
