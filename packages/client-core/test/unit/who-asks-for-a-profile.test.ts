import { type AccountId, accountId, type GroupId, groupId } from "@murmuration/base";
import type { CommunityContext } from "@murmuration/mls-groups";
import { describe, expect, test } from "vitest";
import { decodeContent } from "../../src/core/content.ts";
import type { Access } from "../../src/shell/communities/access.ts";
import { ProfileRequests } from "../../src/shell/communities/profile-requests.ts";
import type { Registry } from "../../src/shell/communities/registry.ts";
import type { Context } from "../../src/shell/context.ts";

const MEMBERS = 50;
/** From saying something until the others hear it, ms. Less than lies between two who draw their times evenly. */
const ON_THE_WAY_MS = 5;
const id: GroupId = groupId(new Uint8Array(16).fill(9));
const community = {
  profileHash: new Uint8Array(32).fill(7),
  announcementOnly: false,
  roleHolders: [],
} as unknown as CommunityContext;

const settled = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Time that goes on only when it is told to. */
class Time {
  nowMs = 1_000_000;
  private readonly sleepers = new Set<{ readonly untilMs: number; readonly wake: () => void }>();

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const sleeper = { untilMs: this.nowMs + ms, wake: resolve };
      this.sleepers.add(sleeper);
      signal?.addEventListener("abort", () => this.sleepers.delete(sleeper) && resolve());
    });
  }

  async pass(ms: number): Promise<void> {
    const endMs = this.nowMs + ms;
    for (;;) {
      const [next] = [...this.sleepers].sort((one, other) => one.untilMs - other.untilMs);
      if (next === undefined || next.untilMs > endMs) break;
      this.nowMs = next.untilMs;
      this.sleepers.delete(next);
      next.wake();
      await settled();
    }
    this.nowMs = endMs;
  }
}

/** Members of a group whose profile none of them has been told; the first of them draws the shortest times. */
function membersWithoutProfile() {
  const time = new Time();
  /** Who asked, by their places. */
  const questions: number[] = [];
  const members = Array.from({ length: MEMBERS }, (_, place) => {
    const own: AccountId = accountId(new Uint8Array(16).fill(place + 1));
    const closing = new AbortController();
    const context = {
      closing,
      own: { accountId: own },
      now: () => time.nowMs,
      transaction: <T>(work: () => T) => work(),
      newMessageId: () => new Uint8Array(16),
      meta: { text: () => "somebody" },
      mls: { group: () => ({ state: "active", profile: undefined, profileWanted: false }) },
      conversations: { get: () => ({ state: "active", protocol: "mls" }), countMembers: () => MEMBERS },
      outbox: {
        append: ({ content }: { readonly content: Uint8Array }) => {
          questions.push(place);
          void time.sleep(ON_THE_WAY_MS).then(() => {
            const { profileRequest } = decodeContent(content);
            for (const other of members)
              if (other.own !== own) other.requests.receive(id, own, profileRequest!);
          });
        },
      },
      environment: {
        sleep: (ms: number, signal: AbortSignal) => time.sleep(ms, signal),
        random: (length: number) => {
          const drawn = new Uint8Array(length);
          new DataView(drawn.buffer).setUint32(0, Math.floor((place / MEMBERS) * 2 ** 32));
          return drawn;
        },
      },
    };
    const requests = new ProfileRequests(
      context as unknown as Context,
      { communityOf: () => community } as unknown as Registry,
      {} as unknown as Access,
      { say: () => {}, sayOwed: () => {}, wake: () => {}, behind: (work) => void work() },
    );
    return { own, requests, leave: () => closing.abort() };
  });
  return { members, questions, time };
}

describe("a profile that none of the members was told", () => {
  const begin = () => {
    const group = membersWithoutProfile();
    for (const { requests } of group.members) requests.expect(id, community);
    return group;
  };

  test("is asked for by one of them, when it has waited a while, and by one again after twice that time", async () => {
    const { questions, time } = begin();
    await time.pass(9_900);
    expect(questions).toEqual([]);
    await time.pass(3_000);
    expect(questions).toEqual([0]);
    await time.pass(16_000);
    expect(questions).toEqual([0]);
    await time.pass(5_000);
    expect(questions).toEqual([0, 0]);
  });

  test("is asked for by the next where the first is gone, before it asked or after", async () => {
    const { members, questions, time } = begin();
    members[0]!.leave();
    await time.pass(13_000);
    expect(questions).toEqual([1]);
    members[1]!.leave();
    await time.pass(21_000);
    expect(questions).toEqual([1, 2]);
  });

  test("is asked for by a member that begins to miss it after somebody else has asked", async () => {
    const { members, questions, time } = membersWithoutProfile();
    members[1]!.requests.expect(id, community);
    await time.pass(11_000);
    expect(questions).toEqual([1]);
    members[0]!.requests.expect(id, community);
    await time.pass(11_000);
    expect(questions).toEqual([1, 0]);
  });
});
