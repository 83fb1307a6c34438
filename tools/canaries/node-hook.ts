/** For processes and threads that stories start: `node --import` of this file. */
import { registerHooks } from "node:module";
import { fileURLToPath } from "node:url";
import { inWrongVersion } from "./wrong-version.ts";

registerHooks({
  load(url, context, nextLoad) {
    const loaded = nextLoad(url, context);
    if (!url.startsWith("file:") || loaded.source === undefined || loaded.source === null) return loaded;
    const source =
      typeof loaded.source === "string" ? loaded.source : Buffer.from(loaded.source as Uint8Array).toString();
    const wrong = inWrongVersion(fileURLToPath(url.split("?", 1)[0]!), source);
    return wrong === undefined ? loaded : { ...loaded, source: wrong };
  },
});
