/** A community on the delivery service: every member online, one of them writing. */
import { groupId } from "@murmuration/base";
import { packageVersion } from "../machine.ts";
import { DiskProbe } from "./disk-probe.ts";
import { FanOut, type Publisher } from "./fan-out.ts";
import { openGroup } from "./group-reader.ts";
import type { Plan } from "./plan.ts";
import type { ReadersTask } from "./reader-worker.ts";
import type { FanoutResult } from "./report.ts";
import {
  communityOf,
  leafKeysOf,
  messagesOf,
  type ServiceOptions,
  ServiceUnderTest,
  submitIds,
} from "./service.ts";
import { ServiceClient } from "./service-client.ts";
import { cutAll, type Running, shares } from "./workers.ts";

const MESSAGES = 64;

export async function measureServiceFanOut(
  seed: string,
  plan: Plan,
  options: ServiceOptions,
  running: Running,
): Promise<FanoutResult> {
  const community = communityOf(seed, "fan-out", plan.members);
  const messages = messagesOf(community, 0, plan.payloadBytes, MESSAGES);
  const service = await ServiceUnderTest.start(options);
  const stopService = running.add(() => service.stop());
  const links = running.readers(plan.processes);
  try {
    const place = await service.store(community);
    const leaves = leafKeysOf(community);
    const { port } = service;
    // First, so that the group itself is loaded when memory is taken.
    const client = await ServiceClient.open(port);
    await openGroup(client, place, leaves[0]!);
    const before = await service.memory();
    const tasks = shares(leaves, links.length);
    await Promise.all(
      links.map((link, i) =>
        link.request("readers", { port, place, leaves: tasks[i]! } satisfies ReadersTask),
      ),
    );
    const after = await service.memory();

    const nextId = submitIds(seed, "fan-out");
    const id = groupId(place.groupId);
    let sent = 0;
    const publisher: Publisher = {
      async publish() {
        const message = messages[sent++ % messages.length]!;
        const frame = { kind: "groupSubmit", groupId: id, submitId: nextId(), message } as const;
        return (await client.expect(frame, "groupSubmitAccepted")).sequence;
      },
      close: async () => client.cut(),
    };
    const fanOut = new FanOut(links, plan.members, publisher, () => service.cpuSeconds());
    const probe = new DiskProbe(service.directory);
    const stopProbe = running.add(() => probe.stop());
    const latency = await fanOut.latency(plan.fanout);
    const disk = await stopProbe();
    const throughput = await fanOut.throughput(plan.fanout);
    await publisher.close();
    return {
      server: options.sockets === "ws" ? "murmuration, ws" : "murmuration, uWebSockets.js",
      version: packageVersion("@murmuration/delivery-service"),
      subscribers: plan.members,
      messageBytes: messages[0]!.length,
      latency,
      disk,
      throughput,
      residentBytesPerSubscriber: (after.residentBytes - before.residentBytes) / plan.members,
    };
  } finally {
    await cutAll(links);
    await service.end();
    await stopService();
  }
}
