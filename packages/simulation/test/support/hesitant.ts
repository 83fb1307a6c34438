import { systemEnvironment } from "@murmuration/client-core";
import { introduce, type SimulatedDevice, type World } from "../../src/index.ts";
import { movable, movers, pairwiseGroup } from "./moves.ts";

const LATER_MS = 1_000;

/**
 * A device whose words of a move have a time to come, as those have that a large group is told last, on a clock that can be made
 * to stand: then none of them leaves, and no next step is taken.
 */
class Hesitant {
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

/** A pairwise group of three whose owner, Alice, is such a device. */
export async function hesitantFlock(world: World) {
  const hesitant = new Hesitant();
  const alice = await world.join("Alice", hesitant.options);
  const [bob, carol] = (await movers(world, ["Bob", "Carol"])) as [SimulatedDevice, SimulatedDevice];
  await introduce(alice, bob, carol);
  const { id } = await pairwiseGroup(alice, [bob, carol]);
  return { hesitant, alice, bob, carol, id };
}
