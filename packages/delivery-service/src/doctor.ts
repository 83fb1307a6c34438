import { collectFacts } from "./adapters/diagnosis-facts.ts";
import type { DeliveryServiceConfig } from "./config.ts";
import { diagnose, type Finding } from "./core/diagnosis.ts";

/** Checks the engines and this machine against what a node needs. Changes nothing; never rejects for an engine's sake. */
export async function examine(config: DeliveryServiceConfig): Promise<readonly Finding[]> {
  return diagnose(await collectFacts(config));
}
