import type { Conversation } from "@murmuration/client-core";
import {
  type DeviceOptions,
  introduce,
  type SimulatedDevice,
  textsOf,
  until,
  type World,
} from "../../src/index.ts";

/** Small groups over MLS, so that a story needs few people. */
export const communitySettings = { mlsThreshold: 3, keyPackageStock: 4 };

/** A registered device of a new account whose groups are communities from three members on. */
export function newcomer(world: World, name: string, options: DeviceOptions = {}): Promise<SimulatedDevice> {
  return world.join(name, { ...options, settings: { ...communitySettings, ...options.settings } });
}

/** A community of its owner and these members, once all of them are in it. */
export async function flockOf(
  owner: SimulatedDevice,
  ...members: readonly SimulatedDevice[]
): Promise<Conversation> {
  await introduce(owner, ...members);
  const group = await owner.client.conversations.createGroup({
    title: "Flock",
    members: members.map(({ id }) => id),
    protocol: "mls",
  });
  await until(
    () => members.every((member) => inGroup(member, group.id)?.title === "Flock"),
    30_000,
    "all are in",
  );
  return group;
}

/** The community as this device has it. */
export const inGroup = (device: SimulatedDevice, id: string) => device.client.conversations.get(id);

export const namesIn = (device: SimulatedDevice, id: string): readonly string[] =>
  (inGroup(device, id)?.members() ?? []).map(({ name }) => name).sort();

/** Waits until each of these devices shows a text. */
export async function allShow(devices: readonly SimulatedDevice[], id: string, text: string): Promise<void> {
  await until(
    () => devices.every(({ client }) => textsOf(client, id).includes(text)),
    40_000,
    `everybody shows "${text}"`,
  );
}

/** Each says something in turn, and each shows all of it once: they are in one group. */
export async function talkRound(
  devices: readonly SimulatedDevice[],
  id: string,
  what: string,
): Promise<void> {
  const texts = devices.map((_, index) => `${what} ${index}`);
  for (const [index, device] of devices.entries()) {
    await inGroup(device, id)!.send({ text: texts[index]! });
    await allShow(devices, id, texts[index]!);
  }
}

/** How often a device shows each text that it shows. */
export function showsTwice(device: SimulatedDevice, id: string): readonly string[] {
  const texts = textsOf(device.client, id);
  return texts.filter((text, index) => texts.indexOf(text) !== index);
}
