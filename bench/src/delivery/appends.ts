/** Messages into logs that nobody reads: what storing alone allows. */
import { type GroupId, groupId } from "@murmuration/base";
import { openGroup } from "./group-reader.ts";
import type { Plan } from "./plan.ts";
import { nowMs } from "./process-figures.ts";
import type { AppendsResult } from "./report.ts";
import {
  communityOf,
  leafKeysOf,
  messagesOf,
  type ServiceOptions,
  ServiceUnderTest,
  submitIds,
} from "./service.ts";
import { ServiceClient } from "./service-client.ts";
import type { Running } from "./workers.ts";

/** Connections that write at a time, and messages of each that wait for their answer: as many as the service takes on. */
const WRITERS = 8;
const IN_FLIGHT_EACH = 16;
const MESSAGES = 16;

interface Writer {
  readonly client: ServiceClient;
  readonly groups: readonly { readonly id: GroupId; readonly messages: readonly Uint8Array[] }[];
}

export async function measureAppends(
  seed: string,
  plan: Plan,
  options: ServiceOptions,
  running: Running,
): Promise<AppendsResult[]> {
  const results: AppendsResult[] = [];
  const service = await ServiceUnderTest.start(options);
  const stopService = running.add(() => service.stop());
  try {
    for (const groups of plan.appends.groups) {
      for (const payloadBytes of plan.appends.payloadBytes) {
        const writers = await openWriters(service, seed, groups, payloadBytes);
        results.push(await measure(service, writers, seed, plan, { groups, payloadBytes }));
        for (const { client } of writers) client.cut();
      }
    }
  } finally {
    await service.end();
    await stopService();
  }
  return results;
}

/** One group: each writer is a leaf of it. Many: each writer has its share of them open. */
async function openWriters(
  service: ServiceUnderTest,
  seed: string,
  groups: number,
  payloadBytes: number,
): Promise<Writer[]> {
  const communities = Array.from({ length: groups }, (_, i) =>
    communityOf(seed, `appends-${payloadBytes}-${groups}-${i}`, WRITERS, groups === 1 ? WRITERS : 1),
  );
  const places = await Promise.all(communities.map((community) => service.store(community)));
  const open = async (index: number): Promise<Writer> => {
    const client = await ServiceClient.open(service.port);
    const own = groups === 1 ? [0] : communities.map((_, i) => i).filter((i) => i % WRITERS === index);
    const leaf = groups === 1 ? index : 0;
    for (const i of own) await openGroup(client, places[i]!, leafKeysOf(communities[i]!)[leaf]!);
    return {
      client,
      groups: own.map((i) => ({
        id: groupId(places[i]!.groupId),
        messages: messagesOf(communities[i]!, leaf, payloadBytes, MESSAGES),
      })),
    };
  };
  const writers = groups === 1 ? WRITERS : Math.min(WRITERS, groups);
  return Promise.all(Array.from({ length: writers }, (_, i) => open(i)));
}

async function measure(
  service: ServiceUnderTest,
  writers: readonly Writer[],
  seed: string,
  plan: Plan,
  what: Pick<AppendsResult, "groups" | "payloadBytes">,
): Promise<AppendsResult> {
  const nextId = submitIds(seed, `appends-${what.groups}-${what.payloadBytes}`);
  let appended = 0;
  const write = async ({ client, groups }: Writer, untilMs: number): Promise<void> => {
    for (let sent = 0; nowMs() < untilMs; sent++) {
      const { id, messages } = groups[sent % groups.length]!;
      const message = messages[sent % messages.length]! as Uint8Array<ArrayBuffer>;
      await client.expect(
        { kind: "groupSubmit", groupId: id, submitId: nextId(), message },
        "groupSubmitAccepted",
      );
      appended++;
    }
  };
  const load = async (seconds: number): Promise<void> => {
    const untilMs = nowMs() + seconds * 1000;
    const loops = writers.flatMap((writer) =>
      Array.from({ length: IN_FLIGHT_EACH }, () => write(writer, untilMs)),
    );
    await Promise.all(loops);
  };
  await load(plan.appends.warmUpSeconds);
  const from = appended;
  const [cpuBefore, ownBefore, startedAtMs] = [service.cpuSeconds(), process.cpuUsage(), nowMs()];
  await load(plan.appends.seconds);
  const seconds = (nowMs() - startedAtMs) / 1000;
  const own = process.cpuUsage(ownBefore);
  const appends = appended - from;
  return {
    ...what,
    inFlight: writers.length * IN_FLIGHT_EACH,
    seconds,
    appends,
    appendsPerSecond: appends / seconds,
    serviceCpuUsPerAppend: ((service.cpuSeconds() - cpuBefore) * 1e6) / appends,
    senderCpuShare: (own.user + own.system) / 1e6 / seconds,
  };
}
