/** Pairwise groups that everybody is in, and what their members were asked to decide. */
import type { Conversation } from "@murmuration/client-core";
import { type SimulatedDevice, until } from "../../src/index.ts";

export const inConversation = ({ client }: SimulatedDevice, id: string): Conversation =>
  client.conversations.get(id)!;

/** A pairwise group of the first one's making, with everybody else in it. */
export async function groupOf(
  creator: SimulatedDevice,
  ...others: readonly SimulatedDevice[]
): Promise<Conversation> {
  const members = others.map(({ id }) => id);
  const group = await creator.client.conversations.createGroup({ title: "Birds", members });
  await until(() => others.every(({ client }) => client.conversations.get(group.id) !== undefined));
  return group;
}

/** How often a person was asked something. */
export const decisions = ({ client }: SimulatedDevice, code: string): number =>
  client.events.read(0, 10_000).filter((event) => event.kind === "decision-needed" && event.code === code)
    .length;

/** Holds all the time. */
export async function stays(ms: number, holds: () => void): Promise<void> {
  const until = Date.now() + ms;
  while (Date.now() < until) {
    holds();
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
