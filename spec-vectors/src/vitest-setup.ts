import { ensureVectors } from "./cases.ts";

/** The `globalSetup` of the test configuration. */
export default async function setup(): Promise<void> {
  await ensureVectors();
}
