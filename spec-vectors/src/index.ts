export { type CaseOptions, ensureVectors, knownAnswers, type VectorCase, vectorCases } from "./cases.ts";
export type * from "./formats.ts";
export {
  defaultPlaces,
  type FetchOptions,
  fetchVectors,
  hasVectors,
  type LoadedVectors,
  loadVectors,
  type MissingVectors,
  VectorFileError,
  type VectorPlaces,
  verifyVectorBytes,
} from "./load.ts";
export {
  type ManifestEntry,
  manifest,
  manifestEntry,
  OFFICIAL_COMMIT,
  OFFICIAL_SOURCE,
  type VectorName,
} from "./manifest.ts";
