import type { GroupId } from "@murmuration/base";
import type { ClientBody, Rate } from "@murmuration/wire";
import { afterEach, describe, expect, it } from "vitest";
import { createInProcessValidator } from "../../src/adapters/in-process-validator.ts";
import type { Stores } from "../../src/service/context.ts";
import { addMembers, expectKind, Member, startCommunity, treePath } from "../support/community.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";
import { callRaw } from "../support/test-device.ts";
import type { TestSocket } from "../support/test-socket.ts";

/** What loading a small tree costs an address. */
const SMALL = 32 * 1024;
const STRANGER = "127.0.0.2";
const REFUSED = { kind: "rejection", code: "rate/limited" };

/** An access by the first leaf of a group in its present epoch, which is the first one of a stranger's. Nobody signed it. */
const forged = (id: GroupId, epoch = 0): ClientBody => ({
  kind: "groupAccess",
  groupId: id,
  epoch,
  leafIndex: 0,
  signature: random(64),
  marks: [],
});

describe("strangers and trees", () => {
  let service: TestService;
  afterEach(() => service.stop());

  /** A service in which an address has so many small trees loaded, and which keeps the one that was asked last. */
  const start = (smallTrees: number, stores?: (real: Stores) => Stores) => {
    const treeBytesPerAddress: Rate = { burst: smallTrees * SMALL, perMinute: 1 };
    return startTestService({
      limits: { rates: { ...unhurried.rates, treeBytesPerAddress } },
      validator: createInProcessValidator(1),
      config: { trustedProxies: 1 },
      ...(stores && { stores }),
    });
  };

  /** Groups of one leaf each, that a stranger has made. */
  const makeGroups = async (socket: TestSocket, founder: Member, count: number): Promise<GroupId[]> => {
    const made: GroupId[] = [];
    while (made.length < count) {
      const creation = founder.found();
      expectKind(await socket.request(creation), "groupCreated");
      made.push(creation.groupId);
    }
    return made;
  };

  /** Asks for one group after the other, and says how often before it is refused for its address. */
  const untilRefused = async (socket: TestSocket, groups: readonly GroupId[]): Promise<number> => {
    for (let asked = 0; asked < 50; asked++) {
      const answer = await socket.request(forged(groups[asked % groups.length]!));
      if (answer.kind !== "rejection" || answer.code !== "rate/limited") continue;
      expect(answer.retryAfterMs).toBeGreaterThan(0);
      return asked;
    }
    return Number.POSITIVE_INFINITY;
  };

  it("who has more groups loaded than are kept is refused, and the members of others come in all the same", async () => {
    service = await start(8);
    const [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    const mallory = (await Member.strangers(service, 1))[0]!;
    const socket = await mallory.connect(service, STRANGER);
    const groups = await makeGroups(socket, mallory, 3);
    expect(await untilRefused(socket, groups)).toBe(8);

    // Their group is not loaded any more: one of them pays for it, and no other then, whoever asks.
    expect(await socket.request(forged(alice.groupId, 1))).toMatchObject(REFUSED);
    await bob.open(service);
    for (let i = 0; i < 20; i++)
      expectKind(await bob.socket.request(bob.accessFrame()), "groupAccessGranted");
    expect(await socket.request(forged(alice.groupId, 1))).toMatchObject({ code: "group/not-a-member" });
    expectKind(await bob.socket.request(bob.say("still here")), "groupSubmitAccepted");
  });

  it("all who come at once to a group that is not loaded pay for it once, behind whatever address", async () => {
    let loads = 0;
    const treeBytesPerAddress: Rate = { burst: 2 * SMALL, perMinute: 1 };
    service = await startTestService({
      thread: true,
      limits: { rates: { ...unhurried.rates, treeBytesPerAddress } },
      config: { validatorBytes: 1 },
      stores: (real) => {
        const mlsGroups = Object.create(real.mlsGroups) as Stores["mlsGroups"];
        mlsGroups.loadTree = (...question) => {
          loads++;
          return real.mlsGroups.loadTree(...question);
        };
        return { ...real, mlsGroups };
      },
    });
    const [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    const mallory = (await Member.strangers(service, 1))[0]!;
    const socket = await mallory.connect(service, STRANGER);
    expectKind(await socket.request(mallory.found()), "groupCreated");
    await mallory.open(service);

    const coming: (() => Promise<unknown>)[] = [];
    for (let i = 0; i < 100; i++) {
      const connection = await bob.connect(service, "127.0.0.3");
      const frame = bob.accessFrame();
      coming.push(async () => expectKind(await connection.request(frame), "groupAccessGranted"));
    }
    loads = 0;
    await Promise.all(coming.map((come) => come()));
    expect(loads).toBe(1);
  });

  it("whoever has opened groups of its own pays for them as well when it commits in one after the other", async () => {
    service = await start(8);
    const [one, other] = (await Member.strangers(service, 2)) as [Member, Member];
    for (const member of [one, other]) {
      await member.connect(service, STRANGER);
      expectKind(await member.socket.request(member.found()), "groupCreated");
      await member.open(service, 0);
    }
    let committed = 0;
    while (committed < 20) {
      const member = committed % 2 === 0 ? one : other;
      const answer = await member.commit(member.makeCommit());
      if (answer.kind === "rejection") {
        expect(answer).toMatchObject(REFUSED);
        break;
      }
      committed++;
    }
    expect(committed).toBeGreaterThan(0);
    expect(committed).toBeLessThan(8);
  });

  it("a large tree costs its bytes, and one that is larger than the allowance is loaded all the same", async () => {
    service = await start(8);
    const alice = await Member.register(service);
    await startCommunity(service, [alice]);
    await addMembers(alice, await Member.strangers(service, 200), false);
    const mallory = (await Member.strangers(service, 1))[0]!;
    const socket = await mallory.connect(service, STRANGER);
    const [small] = await makeGroups(socket, mallory, 1);
    expect(await untilRefused(socket, [alice.groupId, small!])).toBeLessThan(6);

    await service.stop();
    service = await start(1);
    const bob = await Member.register(service);
    await startCommunity(service, [bob]);
    await addMembers(bob, await Member.strangers(service, 200), false);
    const stranger = (await Member.strangers(service, 1))[0]!;
    await makeGroups(await stranger.connect(service, STRANGER), stranger, 1);
    await stranger.open(service);
    const far = await stranger.connect(service, "127.0.0.3");
    expect(await far.request(forged(bob.groupId, 1))).toMatchObject({ code: "group/not-a-member" });
  });

  it("who asks for one tree after the other is refused, but not for one that is there; others get theirs", async () => {
    service = await start(4);
    const alice = await Member.register(service);
    await startCommunity(service, [alice]);
    const paths: string[] = [];
    while (paths.length < 6) {
      expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
      paths.push(treePath(alice.group.context.treeHash));
    }
    const ask = (path: string, address: string) =>
      callRaw(service.base, "GET", path, { "x-forwarded-for": address });
    const statuses: number[] = [];
    for (const path of paths) statuses.push((await ask(path, STRANGER)).status);
    expect(statuses).toEqual([200, 200, 200, 200, 429, 429]);
    const { rejection } = await ask(paths[4]!, STRANGER);
    expect(rejection).toMatchObject({ code: "rate/limited" });
    expect(rejection?.retryAfterMs).toBeGreaterThan(0);
    expect((await ask(paths[0]!, STRANGER)).status).toBe(200);
    expect((await ask(paths[4]!, "127.0.0.3")).status).toBe(200);
    expect((await ask(paths[4]!, STRANGER)).status).toBe(200);
  });

  it("nobody who waits for a tree is refused because of whoever asked for it first", async () => {
    let slow = false;
    service = await start(1, (real) => {
      const { mlsGroups } = real;
      const findTree: typeof mlsGroups.findTree = async (hash) => {
        if (slow) await new Promise((resolve) => setTimeout(resolve, 300));
        return Object.getPrototypeOf(mlsGroups).findTree.call(mlsGroups, hash);
      };
      return { ...real, mlsGroups: Object.assign(mlsGroups, { findTree }) };
    });
    const alice = await Member.register(service);
    await startCommunity(service, [alice]);
    const past = treePath(alice.group.context.treeHash);
    expectKind(await alice.commit(alice.makeCommit()), "groupCommitAccepted");
    const wanted = treePath(alice.group.context.treeHash);
    const ask = (path: string, address: string) =>
      callRaw(service.base, "GET", path, { "x-forwarded-for": address });
    expect((await ask(past, STRANGER)).status).toBe(200);
    slow = true;
    const first = ask(wanted, STRANGER);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const others = ["127.0.0.3", "127.0.0.4"].map((address) => ask(wanted, address));
    expect((await first).status).toBe(429);
    expect((await Promise.all(others)).map(({ status }) => status)).toEqual([200, 200]);
  });
});
