/** What the stories about groups that move to MLS share. */
import { UnavailableError } from "@murmuration/base";
import type { ClientSettings, Conversation, Transport } from "@murmuration/client-core";
import { type DeviceOptions, introduce, type SimulatedDevice, textsOf, until } from "../../src/index.ts";
import { countOf, on, PATIENCE_MS } from "./communities.ts";

/** A place where devices register: a world in this process, or one with a service of its own. */
interface Place {
  join(name: string, options?: DeviceOptions): Promise<SimulatedDevice>;
}

/** Few KeyPackages, so that a device is registered quickly. */
export const movable: Partial<ClientSettings> = { keyPackageStock: 6 };

/** A link over which no KeyPackage reaches the service. */
export const withoutKeyPackages = (transport: Transport): Transport => ({
  origin: transport.origin,
  connect: (handlers, timeoutMs) => transport.connect(handlers, timeoutMs),
  request: (request) =>
    request.path.startsWith("/v1/key-packages")
      ? Promise.reject(new UnavailableError("connection/lost"))
      : transport.request(request),
  stream: (request) => transport.stream(request),
  get traffic() {
    return transport.traffic;
  },
  close: () => transport.close(),
});

/** Devices of accounts that know each other. */
export async function movers<const Names extends readonly string[]>(
  place: Place,
  names: Names,
  options: DeviceOptions = {},
): Promise<{ [K in keyof Names]: SimulatedDevice }> {
  const devices: SimulatedDevice[] = [];
  for (const name of names)
    devices.push(await place.join(name, { ...options, settings: { ...movable, ...options.settings } }));
  await introduce(...devices);
  return devices as { [K in keyof Names]: SimulatedDevice };
}

/** A pairwise group of its owner and these members, once all of them have it. */
export async function pairwiseGroup(
  owner: SimulatedDevice,
  members: readonly SimulatedDevice[],
  title = "Birds",
): Promise<Conversation> {
  const group = await owner.client.conversations.createGroup({ title, members: members.map(({ id }) => id) });
  await until(
    () => members.every((member) => on(member, group.id)?.state === "active"),
    PATIENCE_MS,
    `everybody has ${title}`,
  );
  return group;
}

/** What each device knows of the move: for a story that does not come to its end. */
const standingOf = (devices: readonly SimulatedDevice[], group: string): string =>
  devices
    .map((device) => {
      const conversation = on(device, group);
      return `${conversation?.protocol} ${conversation?.state} ${JSON.stringify(conversation?.migration)}`;
    })
    .join("\n");

/** Waits until each of these devices goes by MLS. */
export async function allMoved(devices: readonly SimulatedDevice[], group: string, ms = PATIENCE_MS) {
  await until(
    () => devices.every((device) => on(device, group)?.protocol === "mls"),
    ms,
    "everybody goes by MLS",
  ).catch((error: Error) => {
    throw new Error(`${error.message}\n${standingOf(devices, group)}`);
  });
}

/** Waits for something about a group, and says how far its move is where that does not come. */
export async function untilIn(
  devices: readonly SimulatedDevice[],
  group: string,
  condition: () => boolean,
  what: string,
  ms = PATIENCE_MS,
): Promise<void> {
  await until(condition, ms, what).catch((error: Error) => {
    throw new Error(`${error.message}\n${standingOf(devices, group)}`);
  });
}

/** What members say while their group moves: everybody has to have all of it, once, and each speaker's in its order. */
export class Talk {
  readonly group: string;
  private readonly words = new Map<SimulatedDevice, string[]>();
  /** Said by a device that died before it knew that it had: there once or not at all. */
  private readonly perhaps = new Set<string>();
  private count = 0;

  constructor(group: string) {
    this.group = group;
  }

  /** All that was said for sure. */
  get all(): readonly string[] {
    return [...this.words.values()].flat();
  }

  async say(device: SimulatedDevice, name: string): Promise<string> {
    const text = `${name} ${this.count++} of ${device.path.slice(-4, -3)}`;
    this.perhaps.add(text);
    await on(device, this.group).send({ text });
    this.perhaps.delete(text);
    this.words.set(device, [...(this.words.get(device) ?? []), text]);
    return text;
  }

  /** Waits until these devices have all that was said, and looks at the order. */
  async heardBy(devices: readonly SimulatedDevice[], ms = PATIENCE_MS): Promise<void> {
    await untilIn(
      devices,
      this.group,
      () => devices.every((device) => this.missing(device).length === 0),
      "everybody hears everything",
      ms,
    ).catch((error: Error) => {
      const missing = devices.map((device) => this.missing(device).join(", "));
      throw new Error(`${error.message}\nmissing: ${missing.join(" | ")}`);
    });
    for (const device of devices) this.requireOrder(device);
  }

  missing(device: SimulatedDevice): readonly string[] {
    return this.all.filter((text) => countOf(device, this.group, text) === 0);
  }

  private requireOrder(device: SimulatedDevice): void {
    const shown = textsOf(device.client, this.group);
    for (const [speaker, said] of this.words) {
      const heard = shown.filter((text) => said.includes(text));
      if (heard.join() !== said.join())
        throw new Error(`out of order or twice, of ${speaker.path}: ${heard.join(", ")}\n${said.join(", ")}`);
    }
    for (const text of this.perhaps)
      if (countOf(device, this.group, text) > 1) throw new Error(`twice: ${text}`);
  }
}

/** The group has moved on each of these devices, and they can talk. */
export async function requireMoved(
  devices: readonly SimulatedDevice[],
  group: string,
  word: string,
  ms = PATIENCE_MS,
): Promise<void> {
  await allMoved(devices, group, ms);
  const talk = new Talk(group);
  await Promise.all(devices.map((device) => talk.say(device, word)));
  await talk.heardBy(devices, ms);
}

/** Three members of whom one is killed again and again while their groups move, one group for each moment. */
export async function killable(place: Place) {
  const devices = await movers(place, ["Alice", "Bob", "Carol"]);
  const [alice, bob, carol] = devices;
  const story = {
    alice,
    bob,
    carol,
    everybody: devices as readonly SimulatedDevice[],
    id: "",
    talk: new Talk(""),
    /** A pairwise group of all three in which each has said something. */
    async begin(point: number): Promise<void> {
      story.id = (await pairwiseGroup(alice, [bob, carol], `Birds ${point}`)).id;
      story.talk = new Talk(story.id);
      for (const device of story.everybody) await story.talk.say(device, "before");
      await story.talk.heardBy(story.everybody);
    },
    /** All are in MLS with all that was said, and the record says that the move is over. */
    async ended(): Promise<void> {
      const { everybody, id, talk } = story;
      await requireMoved(everybody, id, "all are in");
      await talk.heardBy(everybody);
      await untilIn(everybody, id, () => on(alice, id).migration?.state === "mls", "the record is done");
    },
  };
  return story;
}
