/** An engine that the stores stand on. */
export interface EngineProbe {
  readonly name: EngineName;
  /** Resolves when the engine answers now. Rejects, or takes long, when it does not. */
  ask(): Promise<unknown>;
}

export type EngineName = "sqlite" | "postgresql" | "redis";
