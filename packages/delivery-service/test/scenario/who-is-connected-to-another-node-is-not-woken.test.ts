/** Each node takes messages for devices that are connected to the other one. */
import { type Bytes, toHex } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, inject, it, vi } from "vitest";
import type { PushGateway, PushWake } from "../../src/ports/push.ts";
import { startTestNodes, type TestNodes } from "../support/cluster.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { random } from "../support/random.ts";
import type { TestService } from "../support/service.ts";
import { call, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

/** Longer than a node gathers and looks. */
const QUIET_MS = 1_200;
const quiet = () => new Promise((resolve) => setTimeout(resolve, QUIET_MS));
/** Between two nodes hearing of each other. */
const BEAT_MS = 5_500;

describe.skipIf(inject("cluster") === undefined)("who is connected to another node is not woken", () => {
  const asked: PushWake[] = [];
  const pushGateway: PushGateway = { maxWakes: 100, wake: async (wakes) => void asked.push(...wakes) };
  let cluster: TestNodes;
  let a: TestService;
  let b: TestService;
  beforeEach(async () => {
    asked.length = 0;
    cluster = await startTestNodes(2, { pushGateway });
    [a, b] = cluster.nodes as [TestService, TestService];
    await new Promise((resolve) => setTimeout(resolve, BEAT_MS));
  }, 30_000);
  afterEach(() => cluster.stop());

  const wokenBy = () => asked.map(({ handle }) => toHex(handle)).sort();
  const waitFor = (handles: readonly Bytes[]) =>
    vi.waitFor(() => expect(wokenBy()).toEqual(handles.map(toHex).sort()), { timeout: 5_000, interval: 20 });

  async function deviceWithHandle() {
    const device = await TestDevice.register(a.base);
    const handle = random(85);
    await call(a.base, "setPushHandle", { headers: device.headers(), body: { handle } });
    return { device, handle };
  }

  async function send(to: readonly TestDevice[]): Promise<void> {
    const sender = await TestSocket.anonymous(a.port);
    expectKind(await sender.request({ kind: "submitSealed", ...sealedTo(to) }), "submitAccepted");
    await sender.close();
  }

  it("for its mailbox, unless it goes before it has acknowledged what came meanwhile", async () => {
    const there = await deviceWithHandle();
    const away = await deviceWithHandle();
    const socket = await TestSocket.device(b.port, there.device);
    await quiet();
    await send([there.device, away.device]);
    await waitFor([away.handle]);
    await quiet();
    await waitFor([away.handle]);
    await socket.envelopes(1);
    socket.webSocket.terminate();
    await waitFor([away.handle, there.handle]);
  });

  it("for a group that it has open there", async () => {
    const members = [await Member.register(a), ...(await Member.strangers(a, 2))];
    await startCommunity(a, members);
    const [owner, there, away] = members as [Member, Member, Member];
    const handles: Bytes[] = [];
    for (const member of [there, away]) {
      await member.open(b, 1);
      const handle = random(85);
      handles.push(handle);
      const frame = { kind: "groupPushHandle", groupId: member.groupId, handle } as const;
      expectKind(await member.socket.request(frame), "groupDone");
    }
    await away.socket.close();
    await quiet();
    const { sequence } = expectKind(await owner.socket.request(owner.say("hello")), "groupSubmitAccepted");
    await waitFor([handles[1]!]);
    await quiet();
    await waitFor([handles[1]!]);
    await there.catchUp(sequence);
    there.socket.webSocket.terminate();
    await waitFor(handles);
  });
});
