/** The only place that reads the environment. */
import { homedir } from "node:os";
import { join } from "node:path";

export interface Surroundings {
  /** Folder of the client's key and database where `--home` says nothing else. */
  readonly home: string;
  /** The delivery service where `register --server` says nothing else. */
  readonly server: string;
}

/** MURMURATION_HOME and MURMURATION_SERVER, or their defaults. */
export function readSurroundings(environment: NodeJS.ProcessEnv = process.env): Surroundings {
  return {
    home: environment["MURMURATION_HOME"] || join(homedir(), ".murmuration"),
    server: environment["MURMURATION_SERVER"] || "http://127.0.0.1:8080",
  };
}
