/**
 * Devices that lose their connections all at once, miss messages, and come back all at once. Each has a connection for
 * its mailbox and one for its community, as clients have, and waits for no random time, as clients would.
 */
import { type Bytes, groupId, type SubmitId } from "@murmuration/base";
import { accountAt, DEVICE_ID, REGISTRATION_ID } from "../fanout/accounts.ts";
import { derived } from "../mls/key-material.ts";
import type { CatchUpTask, CaughtUp, DevicesTask } from "./device-worker.ts";
import { percentile } from "./fan-out.ts";
import { type GroupPlace, openGroup } from "./group-reader.ts";
import type { Plan } from "./plan.ts";
import type { StormResult } from "./report.ts";
import {
  communityOf,
  leafKeysOf,
  messagesOf,
  type ServiceOptions,
  ServiceUnderTest,
  submitIds,
} from "./service.ts";
import { ServiceClient } from "./service-client.ts";
import { type Running, shares } from "./workers.ts";

/** As many as one submit may address. */
const RECIPIENTS = 256;
const ENVELOPE_BYTES = 400;

export async function measureStorm(
  seed: string,
  plan: Plan,
  options: ServiceOptions,
  running: Running,
  show: (what: string) => void,
): Promise<StormResult> {
  const { devices, envelopes, entries, limitSeconds } = plan.storm;
  const sizes = shares(Array.from({ length: devices }), plan.storm.communities).map(({ length }) => length);
  const communities = sizes.map((members, i) => communityOf(seed, `storm-${i}`, members));
  const service = await ServiceUnderTest.start(options);
  const stopService = running.add(() => service.stop());
  const { links, end } = running.clients("device-worker", plan.processes);
  try {
    show("reconnect: devices come online");
    const { port } = service;
    await service.accounts({ seed, first: 0, count: devices });
    const places: GroupPlace[] = [];
    let account = 0;
    for (const community of communities) {
      const place = await service.store(community);
      places.push(place);
      const all = leafKeysOf(community).map((leaf) => ({ account: account++, leaf }));
      const tasks = shares(all, links.length);
      await Promise.all(
        links.map((link, i) =>
          link.request("devices", { seed, place, devices: tasks[i]! } satisfies DevicesTask),
        ),
      );
    }
    const catchUp = (task: Omit<CatchUpTask, "port">) =>
      Promise.all(
        links.map((link) => link.request<CaughtUp>("catchUp", { port, ...task } satisfies CatchUpTask)),
      );
    const limitMs = limitSeconds * 1000;
    const first = await catchUp({ envelopes: 0, entries: 0, limitMs });
    if (first.some((each) => each.doneAtMs.length < each.devices)) {
      throw new Error(`not every device came online: ${first.flatMap(({ whys }) => whys).join(", ")}`);
    }
    await Promise.all(links.map((link) => link.request("cut")));

    show("reconnect: messages for devices that are away");
    const client = await ServiceClient.open(port);
    const nextId = submitIds(seed, "storm");
    for (let sent = 0; sent < envelopes; sent++) {
      for (let next = 0; next < devices; next += RECIPIENTS) {
        await submitTo(client, seed, next, Math.min(RECIPIENTS, devices - next), nextId());
      }
    }
    client.cut();
    for (const [i, place] of places.entries()) {
      const writer = await ServiceClient.open(port);
      await openGroup(writer, place, leafKeysOf(communities[i]!)[0]!);
      for (const message of messagesOf(communities[i]!, 0, plan.payloadBytes, entries)) {
        const frame = {
          kind: "groupSubmit",
          groupId: groupId(place.groupId),
          submitId: nextId(),
          message,
        } as const;
        await writer.expect(frame, "groupSubmitAccepted");
      }
      writer.cut();
    }

    show("reconnect: all at once");
    const cpuBefore = service.cpuSeconds();
    const came = await catchUp({ envelopes, entries, limitMs });
    const serviceCpuSeconds = service.cpuSeconds() - cpuBefore;
    const startedAtMs = Math.min(...came.map((each) => each.startedAtMs));
    const seconds = came
      .flatMap(({ doneAtMs }) => doneAtMs.map((at) => (at - startedAtMs) / 1000))
      .sort((a, b) => a - b);
    const sum = (of: (each: CaughtUp) => number) => came.reduce((total, each) => total + of(each), 0);
    return {
      devices,
      connections: devices * 2,
      communities: communities.length,
      envelopesEach: envelopes,
      entriesEach: entries,
      caughtUp: seconds.length,
      lost: sum(({ lost }) => lost),
      repeated: sum(({ repeated }) => repeated),
      retries: sum(({ retries }) => retries),
      p50Seconds: percentile(seconds, 0.5),
      lastSeconds: seconds.length === devices ? seconds.at(-1)! : null,
      serviceCpuSeconds,
    };
  } finally {
    end();
    await service.end();
    await stopService();
  }
}

/** One sealed submit to these accounts' devices, as a pairwise group gets it. */
async function submitTo(
  client: ServiceClient,
  seed: string,
  first: number,
  count: number,
  id: SubmitId,
): Promise<void> {
  const recipients = Array.from({ length: count }, (_, i) => {
    const { accountId, accessKey } = accountAt(seed, first + i);
    const ciphertext = new Uint8Array(ENVELOPE_BYTES) as Bytes;
    ciphertext.set(derived(seed, "envelope", first + i));
    return {
      accountId,
      accessKey,
      devices: [{ deviceId: DEVICE_ID, registrationId: REGISTRATION_ID, ciphertext }],
    };
  });
  await client.expect({ kind: "submitSealed", submitId: id, recipients, ephemeral: false }, "submitAccepted");
}
