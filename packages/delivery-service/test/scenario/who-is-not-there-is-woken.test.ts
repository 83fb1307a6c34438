import { type Bytes, RejectionError, toHex, UnavailableError } from "@murmuration/base";
import { afterEach, describe, expect, it, vi } from "vitest";
import type { PushGateway, PushWake } from "../../src/ports/push.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { query } from "../support/database.ts";
import { random } from "../support/random.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";
import { call, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

/** The other side of the port: notes what it is asked, and fails when told to. */
function recorder() {
  const asked: PushWake[] = [];
  const requests: number[] = [];
  const failures: Error[] = [];
  const gateway: PushGateway = {
    maxWakes: 3,
    async wake(wakes) {
      requests.push(wakes.length);
      const failure = failures.shift();
      if (failure !== undefined) throw failure;
      asked.push(...wakes);
    },
  };
  return { asked, requests, failures, gateway };
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("who is not there is woken", () => {
  const push = recorder();
  let service: TestService;
  const start = async (more: Parameters<typeof startTestService>[0] = {}) => {
    for (const list of [push.asked, push.requests, push.failures]) list.length = 0;
    service = await startTestService({ pushGateway: push.gateway, ...more });
  };
  afterEach(() => service.stop());

  const wokenBy = () => push.asked.map(({ handle }) => toHex(handle)).sort();
  const waitFor = (handles: readonly Bytes[]) =>
    vi.waitFor(() => expect(wokenBy()).toEqual(handles.map(toHex).sort()), { timeout: 5_000, interval: 20 });
  const setMailbox = async (device: TestDevice, handle = random(85)): Promise<Bytes> => {
    const answer = await call(service.base, "setPushHandle", { headers: device.headers(), body: { handle } });
    expect(answer.status).toBe(204);
    return handle;
  };
  const counted = async (label: string): Promise<number> => {
    const text = await (await fetch(`${service.base}/metrics`)).text();
    const line = text
      .split("\n")
      .find((one) => one.startsWith(`murmuration_push_wakes_total{label="${label}"}`));
    return Number(line?.split(" ")[1] ?? 0);
  };

  describe("for its mailbox", () => {
    const register = async (count: number) => {
      const devices: TestDevice[] = [];
      for (let i = 0; i < count; i++) devices.push(await TestDevice.register(service.base));
      return devices as [TestDevice, TestDevice, TestDevice];
    };
    const send = async (to: readonly TestDevice[]) => {
      const sender = await TestSocket.anonymous(service.port);
      expectKind(await sender.request({ kind: "submitSealed", ...sealedTo(to) }), "submitAccepted");
      await sender.close();
    };

    it("once for many envelopes; not while it is connected; not without a handle", async () => {
      await start();
      const [away, here, none] = await register(3);
      const handle = await setMailbox(away);
      await setMailbox(here);
      await TestSocket.device(service.port, here);
      for (let i = 0; i < 5; i++) await send([away, here, none]);
      await waitFor([handle]);
      await pause(700);
      await waitFor([handle]);
    });

    it("at once by the first handle that it sets, though it was written to before", async () => {
      await start();
      const [device] = await register(1);
      await send([device]);
      await pause(100);
      const handle = await setMailbox(device);
      await send([device]);
      await waitFor([handle]);
    });

    it("again when it came and went since, and by the newest handle that it set", async () => {
      await start();
      const [device] = await register(1);
      await setMailbox(device);
      const handle = await setMailbox(device);
      await send([device]);
      await waitFor([handle]);
      const socket = await TestSocket.device(service.port, device);
      await socket.envelopes(1);
      await socket.close();
      await vi.waitFor(async () => {
        const metrics = await (await fetch(`${service.base}/metrics`)).text();
        expect(metrics).toContain("murmuration_connections_authenticated 0\n");
      });
      await send([device]);
      await waitFor([handle, handle]);
    });

    it("when its connection ends before it acknowledged what came meanwhile, and not when it did", async () => {
      await start();
      const [lost, read] = await register(2);
      const handle = await setMailbox(lost);
      await setMailbox(read);
      const sockets = [
        await TestSocket.device(service.port, lost),
        await TestSocket.device(service.port, read),
      ];
      await send([lost, read]);
      for (const socket of sockets) await socket.envelopes(1);
      const [last] = await sockets[1]!.envelopes(1);
      await sockets[1]!.request({ kind: "acknowledge", throughEnvelopeId: last!.envelopeId });
      await pause(400);
      expect(push.asked).toEqual([]);
      for (const socket of sockets) socket.webSocket.terminate();
      await waitFor([handle]);
      await pause(400);
      await waitFor([handle]);
    });

    it("no more once it deleted its handle, its account is gone, or nobody renewed it for 60 days", async () => {
      const clock = movableClock(Date.now());
      await start({ clock });
      const [deleted, gone, old] = await register(3);
      for (const device of [deleted, gone, old]) await setMailbox(device);
      await call(service.base, "deletePushHandle", { headers: deleted.headers() });
      await call(service.base, "deleteAccount", { headers: gone.headers() });
      expect(query(service.databasePath, "SELECT count(*) AS n FROM mailbox_push_handles")).toEqual([
        { n: 1 },
      ]);
      clock.advance(61 * 86_400_000);
      await service.runRetention();
      expect(query(service.databasePath, "SELECT count(*) AS n FROM mailbox_push_handles")).toEqual([
        { n: 0 },
      ]);
      await send([deleted, old]);
      await pause(600);
      expect(push.asked).toEqual([]);
    });

    it("and a submit is answered whether or not the gateway is there; what becomes of a wake-up is counted", async () => {
      await start();
      const devices = await register(3);
      const handles: Bytes[] = [];
      for (const device of devices) handles.push(await setMailbox(device));
      push.failures.push(new UnavailableError("push/unavailable"));
      await send(devices);
      await waitFor(handles);
      expect(push.requests).toEqual([3, 3]);
      expect(await counted("sent")).toBe(3);
      const another = await TestDevice.register(service.base);
      await setMailbox(another);
      push.failures.push(new RejectionError("push/refused"));
      await send([another]);
      await vi.waitFor(async () => expect(await counted("refused")).toBe(1));
      expect(service.logged.join("\n")).toContain('"event":"push-refused","wakes":1');
    });

    it("by a handle of one length and nothing else, from a device that shows its token", async () => {
      await start();
      const [device] = await register(1);
      const set = (headers: Record<string, string>, handle: Bytes) =>
        call(service.base, "setPushHandle", { headers, body: { handle } });
      expect((await set({}, random(85))).rejection?.code).toBe("auth/missing");
      await expect(set(device.headers(), random(84))).rejects.toThrow("wire/cannot-encode");
    });
  });

  describe("for a group", () => {
    const setLeaf = async (member: Member): Promise<Bytes> => {
      const handle = random(85);
      const frame = { kind: "groupPushHandle", groupId: member.groupId, handle } as const;
      expectKind(await member.socket.request(frame), "groupDone");
      return handle;
    };
    /** A community whose owner is there; the others left handles and went. */
    const community = async (size: number) => {
      const members = [await Member.register(service), ...(await Member.strangers(service, size - 1))];
      await startCommunity(service, members);
      const handles: Bytes[] = [];
      for (const member of members.slice(1)) {
        await member.open(service, 1);
        handles.push(await setLeaf(member));
        await member.socket.close();
      }
      await setLeaf(members[0]!);
      await pause(50);
      return {
        members: members as [Member, Member, Member, Member],
        handles: handles as [Bytes, Bytes, Bytes],
      };
    };
    const say = async (member: Member, mentions?: { leaves: readonly number[]; everybody: boolean }) =>
      expectKind(
        await member.socket.request({ ...member.say("hello"), ...(mentions && { mentions }) }),
        "groupSubmitAccepted",
      );

    it("each leaf that has it not open, once for many messages, and whoever is mentioned is marked", async () => {
      await start();
      const { handles, members } = await community(4);
      const [owner, bob] = members;
      for (let i = 0; i < 5; i++) await say(owner);
      await waitFor(handles);
      expect(push.asked.every(({ mentioned }) => !mentioned)).toBe(true);
      // A mention wakes once more: to whom the gateway does not pass on the first one, this is the first.
      await say(owner, { leaves: [bob.leafIndex], everybody: false });
      await waitFor([...handles, handles[0]]);
      expect(push.asked.at(-1)).toEqual({ handle: handles[0], mentioned: true });
      await say(owner, { leaves: [], everybody: true });
      await waitFor([...handles, ...handles]);
      await pause(900);
      expect(push.asked).toHaveLength(6);
    });

    it("a leaf whose connection ends before it acknowledged what came meanwhile, and not one that did", async () => {
      await start();
      const { handles, members } = await community(4);
      const [owner, bob, carol] = members;
      for (const member of [bob, carol]) {
        await member.connect(service);
        await member.open(service, 1);
      }
      const { sequence } = await say(owner);
      for (const member of [bob, carol]) await member.catchUp(sequence);
      await carol.acknowledge(sequence);
      await waitFor([handles[2]]);
      for (const member of [bob, carol]) member.socket.webSocket.terminate();
      await waitFor([handles[0], handles[2]]);
      await pause(900);
      await waitFor([handles[0], handles[2]]);
    });

    it("not a leaf that was removed: its handle is deleted before it is used", async () => {
      await start();
      const { handles, members } = await community(4);
      const [owner, bob, carol, dave] = members;
      const removal = owner.makeCommit({ proposals: [{ kind: "remove", removed: bob.leafIndex }] });
      expectKind(await owner.commit(removal), "groupCommitAccepted");
      expectKind(await owner.socket.request(owner.banFrame([carol])), "groupDone");
      await say(owner).catch(() => undefined);
      await waitFor([handles[2]]);
      const left = query(service.databasePath, "SELECT signature_key FROM leaf_push_handles");
      const keys = left.map((row) => toHex(row["signature_key"] as Uint8Array)).sort();
      expect(keys).toEqual([toHex(owner.key), toHex(dave.key)].sort());
    });

    it("no more once it took its handle back; and it sets none for a group that it has not open", async () => {
      await start();
      const { handles, members } = await community(3);
      const [owner, bob] = members;
      await bob.connect(service);
      await bob.open(service, 1);
      const frame = { kind: "groupPushHandle", groupId: bob.groupId } as const;
      expectKind(await bob.socket.request(frame), "groupDone");
      await bob.socket.close();
      const stranger = await TestSocket.anonymous(service.port);
      const refused = await stranger.request({ ...frame, handle: random(85) });
      expect(refused).toMatchObject({ kind: "rejection", code: "group/not-open" });
      await say(owner);
      await waitFor([handles[1]]);
    });
  });
});
