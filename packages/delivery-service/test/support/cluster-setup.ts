import type { TestProject } from "vitest/node";
// The file itself: what is beside it needs packages that are not resolved for a set-up.
import { type ClusterUrls, clusterUrls, whyNoCluster } from "../../src/local-engines/services.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Where PostgreSQL and Redis answer; undefined where they do not. */
    cluster: ClusterUrls | undefined;
  }
}

let said = false;

/** Looks for PostgreSQL and Redis before the tests; says once when the cluster's suites are left out. */
export default async function setup(project: TestProject): Promise<void> {
  const urls = clusterUrls();
  const why = await whyNoCluster(urls);
  project.provide("cluster", why === undefined ? urls : undefined);
  if (why === undefined || said) return;
  said = true;
  console.log(`The suites of the cluster are left out, ${why}: npm run services -- --install`);
}
