import { systemEnvironment } from "@murmuration/client-core";
import type { World } from "../../src/index.ts";
import { movable } from "./moves.ts";

const LATER_MS = 1_000;

/**
 * A device whose words of a move have a time to come, as those have that a large group is told last, on a clock that can be made
 * to stand: then none of them leaves, and no next step is taken.
 */
export class Hesitant {
  private standsAtMs: number | undefined;

  readonly options: NonNullable<Parameters<World["join"]>[1]> = {
    settings: movable,
    environment: { ...systemEnvironment, now: () => this.standsAtMs ?? Date.now() },
    wrapStorage: (storage) => {
      const run = storage.run.bind(storage);
      storage.run = (sql, parameters = []) => {
        const isOfMove = /INSERT INTO outbox /.test(sql) && `${parameters[0]}`.startsWith("migration:");
        const [createdAtMs] = parameters.slice(-1) as [number];
        return run(sql, isOfMove ? [...parameters.slice(0, -1), createdAtMs + LATER_MS] : parameters);
      };
      return storage;
    },
  };

  stand(): void {
    this.standsAtMs = Date.now() + LATER_MS;
  }

  goOn(): void {
    this.standsAtMs = undefined;
  }
}
