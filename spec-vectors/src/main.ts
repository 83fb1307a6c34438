/** `npm run fetch -w spec-vectors`: downloads every official file that is missing, then verifies all of them. */
import { fetchVectors, hasVectors, loadVectors, VectorFileError } from "./load.ts";
import { manifest } from "./manifest.ts";

try {
  for (const { name } of manifest) {
    if (!hasVectors(name)) await fetchVectors(name);
    const loaded = loadVectors(name);
    if (!("missing" in loaded)) console.log(`${name}: ${loaded.cases.length} cases, ${loaded.origin}`);
  }
} catch (error) {
  if (!(error instanceof VectorFileError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
