/** A client that is killed around each effect of something it does, one effect after the other. */
import type { Storage } from "@murmuration/client-core";
import { CrashPlan, Killed, type SimulatedDevice, until } from "../../src/index.ts";

/** For what a dead client throws. */
export const swallow = (error: unknown): void => {
  // The pairwise library puts what a store throws into the text of its own error.
  if (!(error instanceof Error && error.message.includes(new Killed().message))) throw error;
};

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

/** Waits until nothing has happened for a while. */
async function quiet(plan: CrashPlan): Promise<void> {
  let before = -1;
  while (plan.effects.length !== before && !plan.dead) {
    before = plan.effects.length;
    await pause(150);
  }
}

/** Starts the device under a new plan, with nothing left to do. */
async function underPlan(device: SimulatedDevice, keep: (storage: Storage) => Storage): Promise<CrashPlan> {
  const plan = new CrashPlan();
  await device.start({
    wrapStorage: (storage) => plan.wrapStorage(keep(storage)),
    wrapTransport: plan.wrapTransport,
    onFailure: swallow,
  });
  const stop = device.client.events.on((event) => {
    if (event.kind === "connection") return;
    try {
      plan.effect("notify", () => undefined);
    } catch (error) {
      swallow(error);
    }
  });
  plan.whenDead(stop);
  await device.client.connection.caughtUp();
  await device.client.outbox.settled();
  return plan;
}

export interface Story {
  /** What it is, for the line that is printed. */
  readonly name: string;
  readonly device: SimulatedDevice;
  /** Which points are told; each without it. */
  readonly tells?: (point: number) => boolean;
  /** Sees the storage each time that it is opened. */
  readonly keep?: (storage: Storage) => Storage;
  /** What the others do before the device is killed; the device is running and caught up. */
  prepare?(point: number): Promise<void>;
  /** What the device does, or what others do to it. Rejects with whatever it likes when the device dies. */
  act(point: number): Promise<unknown>;
  /** Whether `act` came to its end and nothing more will happen by itself. Without it: when all is quiet. */
  done?(point: number): boolean;
  /** After the restart: what must hold now or soon. `killed`: the plan hit. */
  check(point: number, killed: boolean): Promise<void>;
}

/**
 * Runs the story three times to count its effects, then once for each moment before and after an effect. Returns the effects
 * that were counted: of the second and third time the fewer, for the first has some that come only once, and what a client
 * does behind it (a profile that is asked for, an acknowledgement) falls into one run and not into another.
 */
export async function killAroundEachEffect(story: Story): Promise<readonly string[]> {
  await tell(story, -3, (plan) => plan.record());
  const counted: (readonly string[])[] = [];
  for (const point of [-2, -1])
    counted.push((await tell(story, point, (plan) => plan.record())).effects.slice());
  const [effects] = counted.sort((a, b) => a.length - b.length) as [readonly string[]];
  const all = Array.from({ length: effects.length * 2 }, (_, point) => point);
  const told = all.filter((point) => story.tells?.(point) ?? true);
  const points = told.length;
  console.log(`crash points of ${story.name}: ${points} of ${all.length} (${effects.join(", ")})`);
  let hits = 0;
  for (const point of told) {
    const moment = point % 2 === 0 ? "before" : "after";
    const plan = await tell(story, point, (armed) => armed.arm(point >> 1, moment));
    if (plan.dead) hits++;
  }
  // The order of effects is not the same in each run, and the last ones may be missing in a shorter one.
  if (hits < points * 0.6) throw new Error(`only ${hits} of ${points} crash points were hit`);
  return effects;
}

/** One run: the device does what it does, dies or does not, and is opened again. */
async function tell(story: Story, point: number, arm: (plan: CrashPlan) => void): Promise<CrashPlan> {
  const { device, keep = (storage: Storage) => storage } = story;
  let plan: CrashPlan | undefined;
  try {
    await device.stop().catch(swallow);
    plan = await underPlan(device, keep);
    await story.prepare?.(point);
    arm(plan);
    await live(story, point, plan);
    await device.start({ wrapStorage: keep, wrapTransport: (transport) => transport });
    await device.client.connection.caughtUp();
    await story.check(point, plan.dead);
    return plan;
  } catch (error) {
    const when = point < 0 ? "not killed" : `killed ${point % 2 === 0 ? "before" : "after"} an effect`;
    throw new Error(`${story.name}, point ${point}, ${when}: ${(plan?.effects ?? []).join(", ")}`, {
      cause: error,
    });
  }
}

/** Until the device is dead, or done. */
async function live(story: Story, point: number, plan: CrashPlan): Promise<void> {
  const acted = story.act(point).catch((error: unknown) => {
    if (!plan.dead) throw error;
  });
  const dead = new Promise<void>((resolve) => plan.whenDead(resolve));
  await Promise.race([acted, dead]);
  if (story.done === undefined) await quiet(plan);
  else await until(() => plan.dead || story.done!(point), 20_000, `${story.name}, point ${point}`);
  await story.device.stop().catch(swallow);
  await acted;
}
