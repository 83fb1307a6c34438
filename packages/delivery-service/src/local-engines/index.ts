/** PostgreSQL and Redis on this machine, for tests, benchmarks and `npm run services`. Not for production. */
export { type LocalPostgres, type LocalReplica, startLocalPostgres } from "./postgres.ts";
export { enginesAreInstalled } from "./programs.ts";
export { type LocalRedis, startLocalRedis } from "./redis.ts";
export { type EngineSettings, engineSettings, type Scratch, scratch, scratchNames } from "./scratch.ts";
export {
  type ClusterUrls,
  clusterUrls,
  installServices,
  startServices,
  stopServices,
  whyNoCluster,
} from "./services.ts";
