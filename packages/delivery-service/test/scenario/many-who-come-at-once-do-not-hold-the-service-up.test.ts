import { monitorEventLoopDelay } from "node:perf_hooks";
import { inflateRawSync } from "node:zlib";
import { limits } from "@murmuration/wire";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { openMemoryStores } from "../../src/adapters/memory-stores.ts";
import { addMembers, expectKind, Member, startCommunity, treePath } from "../support/community.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { callRaw } from "../support/test-device.ts";

const MAX_GAP_MS = 50;
const JOINERS = 1000;
const MOST_ATTEMPTS = 20;

/** The longest time between two turns of the event loop, and the most that this thread computed between two. */
interface LoopGap {
  readonly clockMs: number;
  readonly cpuMs: number;
}

function watchLoop(): { end(): LoopGap } {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  const cpuMs = () => {
    const { user, system } = process.threadCpuUsage();
    return (user + system) / 1_000;
  };
  let last = cpuMs();
  let most = 0;
  const look = () => {
    const now = cpuMs();
    most = Math.max(most, now - last);
    last = now;
  };
  const timer = setInterval(look, 1);
  delay.enable();
  return {
    end: () => {
      delay.disable();
      clearInterval(timer);
      look();
      return { clockMs: delay.max / 1e6, cpuMs: most };
    },
  };
}

describe("many who come at once do not hold the service up", () => {
  let service: TestService;
  let alice: Member;
  beforeAll(async () => {
    service = await startTestService({ thread: true });
    alice = await Member.register(service);
    await startCommunity(service, [alice]);
  });
  afterAll(() => service.stop());

  it("a commit that adds 256 leaves no gap of 50 ms in the event loop", async () => {
    // Without a disk: how long an fsync takes is the disk's, and the same for every write.
    const diskless = await startTestService({ thread: true, stores: () => openMemoryStores() });
    const founder = (await Member.strangers(diskless, 1))[0]!;
    const others = await Member.strangers(diskless, limits.addsPerCommit);
    // On a busy machine a gap is mostly others' turns: what counts is what this thread itself computes between two turns of the
    // loop, and by the clock that there is an attempt without a gap: one of the service's own would always be there.
    const gaps: LoopGap[] = [];
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      await startCommunity(diskless, [founder]);
      const made = founder.makeAdd(others);
      const watched = watchLoop();
      const answer = await founder.socket.request(made.frame);
      gaps.push(watched.end());
      expectKind(answer, "groupCommitAccepted");
      if (attempt >= 4 && gaps.some(({ clockMs }) => clockMs < MAX_GAP_MS)) break;
    }
    console.log(
      `longest gaps, clock/CPU: ${gaps.map(({ clockMs, cpuMs }) => `${clockMs.toFixed(1)}/${cpuMs.toFixed(1)} ms`).join(", ")}`,
    );
    const computed = gaps.map(({ cpuMs }) => cpuMs).sort((a, b) => a - b);
    expect(computed[gaps.length >> 1]).toBeLessThan(MAX_GAP_MS);
    expect(Math.min(...gaps.map(({ clockMs }) => clockMs))).toBeLessThan(MAX_GAP_MS);
    await diskless.stop();
  }, 60_000);

  it("a thousand who fetch one tree cost one build of it, also in parts", async () => {
    await addMembers(alice, await Member.strangers(service, 200), false);
    const path = treePath(alice.group.context.treeHash);
    const built = async () => {
      const metrics = await (await fetch(`${service.base}/metrics`)).text();
      return Number(/^murmuration_group_trees_built_total\{label=""\} (\d+)$/m.exec(metrics)?.[1] ?? 0);
    };
    const before = await built();
    const sizes = new Set<number>();
    for (let joined = 0; joined < JOINERS; joined += 100) {
      const answers = await Promise.all(
        Array.from({ length: 100 }, () => callRaw(service.base, "GET", path)),
      );
      for (const { status, raw } of answers) {
        expect(status).toBe(200);
        sizes.add(raw.length);
      }
    }
    expect((await built()) - before).toBe(1);
    const [size] = [...sizes];
    expect(sizes.size).toBe(1);

    const whole = await callRaw(service.base, "GET", path);
    expect(inflateRawSync(whole.raw)).toEqual(Buffer.from(alice.group.ratchetTree()));
    expect(whole.headers.get("cache-control")).toContain("immutable");
    const half = Math.floor(size! / 2);
    const parts = [
      await callRaw(service.base, "GET", path, { range: `bytes=0-${half - 1}` }),
      await callRaw(service.base, "GET", path, { range: `bytes=${half}-` }),
    ];
    expect(parts.map((part) => part.status)).toEqual([206, 206]);
    expect(Buffer.concat(parts.map((part) => part.raw))).toEqual(Buffer.from(whole.raw));
    const beyond = await callRaw(service.base, "GET", path, { range: `bytes=${size}-` });
    expect(beyond).toMatchObject({ status: 416, rejection: { code: "blob/bad-range" } });
    expect((await built()) - before).toBe(1);
  }, 60_000);
});
