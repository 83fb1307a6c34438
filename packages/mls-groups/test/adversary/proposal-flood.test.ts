import { toHex } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { counting } from "../../src/crypto/counting.ts";
import { PROPOSAL_BYTES_PER_SENDER, PROPOSALS_PER_SENDER } from "../../src/group/proposal-cache.ts";
import { createNewMemberProposal, nativeCrypto } from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import { addAll, Client } from "../clients.ts";
import { memoryOf, outcome } from "./careless.ts";
import { frameProposal, keyPackageOf } from "./wrong-messages.ts";

/*
 * Proposals are kept until a commit, and anybody may send one: a member, and a newcomer whom nobody knows.
 */

const { provider: crypto, counts, reset } = counting(nativeCrypto(1));

function group() {
  const [alice, bob, carol] = ["alice", "bob", "carol"].map((name) => new Client(name, crypto));
  alice!.create("friends");
  addAll(alice!, [bob!, carol!]);
  return { alice: alice!, bob: bob!, carol: carol! };
}

/** A newcomer's own Add; `encryptionKey` lets several of them exclude each other. */
function newcomer(to: Client, name: string, encryptionKey?: Uint8Array): Uint8Array {
  const client = new Client(name, crypto);
  const bundle = client.keyPackage();
  const keyPackage =
    encryptionKey === undefined ? bundle.keyPackage : keyPackageOf(client, { encryptionKey });
  const { groupId, epoch } = to.group;
  return createNewMemberProposal(crypto, { groupId, epoch }, { ...bundle, keyPackage });
}

describe("a flood of proposals", () => {
  test("newcomers together, and each member, may have so many waiting, and members and followers agree on which", () => {
    const { alice, bob, carol } = group();
    const follower = PublicGroup.follow(crypto, { groupInfo: alice.group.groupInfo({ ratchetTree: true }) });
    for (let i = 0; i < PROPOSALS_PER_SENDER; i++) {
      const message = newcomer(alice, `newcomer ${i}`);
      for (const { group } of [bob, carol]) group.receive(message);
      follower.receive(message);
    }
    const oneMore = newcomer(alice, "one more");
    const before = memoryOf(bob);
    for (const attempt of [bob.group, carol.group, follower]) {
      expect(outcome(() => attempt.receive(oneMore))).toBe("mls/proposal-limit-reached");
    }
    expect(memoryOf(bob)).toBe(before);

    // Others have room of their own: who wants to leave is heard.
    const { message } = carol.group.propose({ kind: "self_remove" });
    expect(bob.group.receive(message).kind).toBe("proposal");
    expect(follower.receive(message).kind).toBe("proposal");
    const commit = bob.commit();
    expect(bob.group.memberCount).toBe(2 + PROPOSALS_PER_SENDER);
    expect(follower.receive(commit.message).kind).toBe("commit");
    // The next epoch starts anew.
    expect(bob.group.receive(newcomer(bob, "one more")).kind).toBe("proposal");
  });

  test("many bytes count as well, and a member holds itself to what the others will take", () => {
    const { alice, bob } = group();
    const extension = { type: 0xff00, data: new Uint8Array(PROPOSAL_BYTES_PER_SENDER / 2) };
    const large = (n: number) =>
      ({ kind: "group_context_extensions", extensions: [{ ...extension, type: 0xff00 + n }] }) as const;
    const { message } = alice.group.propose(large(0));
    bob.receive(message);
    expect(outcome(() => alice.group.propose(large(1)))).toBe("mls/proposal-limit-reached");
    const careless = frameProposal(alice, large(1));
    expect(outcome(() => bob.group.receive(careless))).toBe("mls/proposal-limit-reached");
    expect(bob.group.receive(message).kind).toBe("proposal");
  });

  test("costs a sender of messages one look at a proposal and not one for each message", () => {
    const { alice, bob } = group();
    for (let i = 0; i < 20; i++) bob.receive(newcomer(alice, `newcomer ${i}`));
    reset();
    for (let i = 0; i < 5; i++) {
      expect(outcome(() => bob.group.createApplicationMessage(new Uint8Array(1)))).toBe(
        "mls/proposals-pending",
      );
    }
    expect(counts.verify).toBeLessThanOrEqual(2);
  });

  test("costs a committer each signature once, also when half of them exclude the other half", () => {
    const { alice, bob, carol } = group();
    const proposals = 100;
    for (let i = 0; i < proposals / 2; i++) {
      const { publicKey } = crypto.generateHpkeKeyPair();
      for (const side of ["left", "right"]) bob.receive(newcomer(alice, `${side} ${i}`, publicKey));
    }
    // She comes last and is heard all the same.
    bob.receive(carol.group.propose({ kind: "remove", removed: alice.group.ownLeaf }).message);
    reset();
    bob.commit();
    // Each proposal once to choose it, and once more those that were chosen, to commit them.
    expect(counts.verify).toBeLessThanOrEqual(proposals * 2 * 2);
    expect(
      [...bob.group.members()].some(
        ({ leafNode }) => toHex(leafNode.signatureKey) === toHex(alice.identity.signatureKeys.publicKey),
      ),
    ).toBe(false);
    expect(bob.group.memberCount).toBeGreaterThan(2 + 10);
  });
});
