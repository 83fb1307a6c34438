/** An engine that was away, a follower that could not be asked, a node that died: nobody says when it is over. */
import { equalBytes, UnavailableError } from "@murmuration/base";
import { afterEach, describe, expect, inject, it } from "vitest";
import { createInProcessValidator } from "../../src/adapters/in-process-validator.ts";
import type { Stores } from "../../src/service/context.ts";
import { startTestNodes, type TestNodes } from "../support/cluster.ts";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const pushedSequences = (member: Member) =>
  member.socket.pushed.flatMap((body) =>
    body.kind === "groupEntries" ? body.entries.map(({ sequence }) => sequence) : [],
  );

describe("what was left undone", () => {
  let stop: () => Promise<void> = async () => {};
  afterEach(() => stop());

  it("a mailbox that could not be read is read when its engine is back, though nothing else comes for it", async () => {
    let isAway = false;
    let refused = 0;
    const stores = (given: Stores): Stores => {
      const mailboxes = Object.create(given.mailboxes) as Stores["mailboxes"];
      mailboxes.read = async (...page) => {
        if (!isAway) return given.mailboxes.read(...page);
        refused++;
        throw new UnavailableError("store/redis-unreachable");
      };
      return { ...given, mailboxes };
    };
    const service = await startTestService({ stores });
    stop = () => service.stop();
    const bob = await TestDevice.register(service.base);
    const mailbox = await TestSocket.device(service.port, bob);
    await mailbox.next("queueEmpty");
    isAway = true;
    const sender = await TestSocket.anonymous(service.port);
    const submit = { kind: "submitSealed" as const, ...sealedTo([bob]) };
    expect(await sender.request(submit)).toMatchObject({ kind: "submitAccepted" });
    await expect.poll(() => refused, { timeout: 5_000 }).toBeGreaterThan(1);
    expect(mailbox.pushed.filter((body) => body.kind === "deliver")).toEqual([]);
    isAway = false;
    expect(await mailbox.envelopes(1)).toHaveLength(1);
  });

  describe.skipIf(inject("cluster") === undefined)("over two nodes", () => {
    let a: TestService;
    let b: TestService;
    const start = async (...given: Parameters<typeof startTestNodes>) => {
      const cluster: TestNodes = await startTestNodes(...given);
      stop = () => cluster.stop();
      [a, b] = cluster.nodes as [TestService, TestService];
    };

    it("a leaf that cannot be looked up after a removal counts as no member until it can be", async () => {
      const real = createInProcessValidator();
      let doubtful: Uint8Array | undefined;
      const leafOfKey: typeof real.leafOfKey = async (base, key) => {
        if (doubtful !== undefined && equalBytes(key, doubtful)) throw new UnavailableError("validator/gone");
        return real.leafOfKey(base, key);
      };
      await start(2, { validator: { ...real, leafOfKey } });
      const [alice, ...others] = [await Member.register(a), ...(await Member.strangers(a, 2))];
      const [bob, carol] = others as [Member, Member];
      await startCommunity(a, [alice, bob, carol]);
      await bob.open(b, 1);
      await carol.open(b, 1);

      const late = bob.say("behind my removal");
      doubtful = bob.key;
      const removal = alice.makeCommit({ proposals: [{ kind: "remove", removed: bob.leafIndex }] });
      expectKind(await alice.commit(removal), "groupCommitAccepted");
      for (const text of ["one", "two"])
        expectKind(await alice.socket.request(alice.say(text)), "groupSubmitAccepted");
      await carol.catchUp(4);
      expect(carol.heard).toEqual(["one", "two"]);
      expect(await bob.socket.request(late)).toMatchObject({ kind: "rejection" });
      expect(pushedSequences(bob)).toEqual([]);

      // It reads what it may, its removal, and nothing behind it.
      doubtful = undefined;
      await expect.poll(() => pushedSequences(bob), { timeout: 5_000 }).toEqual([2]);
      expect(await bob.socket.request(late)).toMatchObject({ code: "group/not-a-member" });
      expect(pushedSequences(bob)).toEqual([2]);
    });

    it("Welcomes of a node that died behind the commit are carried by another one, which has none of its own", async () => {
      let opened = 0;
      const stores = (given: Stores): Stores => {
        if (opened++ > 0) return given;
        // What the first node would have done after the commit does not happen.
        const mlsGroups = Object.create(given.mlsGroups) as Stores["mlsGroups"];
        mlsGroups.outbox = async () => [];
        return { ...given, mlsGroups };
      };
      await start(2, { stores, limits: { welcomeRetryMs: 500 } });
      const [alice, bob] = [await Member.register(a), await Member.register(a)];
      await startCommunity(a, [alice]);
      const made = alice.makeAdd([bob]);
      expectKind(await alice.commit(made), "groupCommitAccepted");
      const mailbox = await TestSocket.device(b.port, bob.device);
      const [envelope] = await mailbox.envelopes(1);
      bob.join(envelope!.welcome!.welcome, made.keyPackages[0]!, alice.group.ratchetTree());
      expect(bob.group.epochAuthenticator()).toEqual(alice.group.epochAuthenticator());
    });
  });
});
