import { utf8 } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { internalsOf } from "../../src/group/group.ts";
import { Group, MemoryGroupStore, nativeCrypto } from "../../src/index.ts";
import { addAll, Client } from "../clients.ts";
import { memoryOf, outcome } from "./careless.ts";

/*
 * A leaf that finds later messages of its own in the log is an old copy of itself, and has to be entered anew. The sender
 * of a PrivateMessage stands under a key that every member has: none of them may bring that about.
 */

const crypto = nativeCrypto(1);
const SENDER_DATA_BYTES = 12;

function pair() {
  const [bob, mallory] = [new Client("bob", crypto), new Client("mallory", crypto)];
  bob.create("friends");
  addAll(bob, [mallory]);
  return { bob, mallory };
}

/** A message of Mallory's that names another leaf, and a generation, as what it was sent with. */
function forged(mallory: Client, leaf: number, generation: number): Uint8Array {
  const bent = nativeCrypto(1);
  const honest = bent.seal.bind(bent);
  bent.seal = (key, nonce, aad, plaintext) => {
    if (plaintext.length === SENDER_DATA_BYTES) {
      const view = new DataView(plaintext.buffer, plaintext.byteOffset);
      view.setUint32(0, leaf);
      view.setUint32(4, generation);
    }
    return honest(key, nonce, aad, plaintext);
  };
  return Group.load(bent, mallory.store).createApplicationMessage(utf8("I am Bob")).message;
}

function copyOf(client: Client): MemoryGroupStore {
  const copy = new MemoryGroupStore();
  for (const key of client.store.keys("")) copy.rows.set(key, client.store.get(key)!.slice());
  return copy;
}

describe("a message that names our leaf as its sender", () => {
  test.each([
    ["a generation that is spent", 0, "mls/generation-spent"],
    ["the next generation", 1, "mls/decryption-failed"],
    ["a generation that is far ahead", 2 ** 32 - 1, "mls/generation-too-far"],
  ])("and %s is unreadable, and changes nothing", (_name, generation, code) => {
    const { bob, mallory } = pair();
    bob.say("hello");
    const message = forged(mallory, bob.group.ownLeaf, generation);
    const before = memoryOf(bob);
    expect(outcome(() => bob.group.receive(message))).toBe(code);
    expect(memoryOf(bob)).toBe(before);
  });

  test("under a key of ours, which every member can derive, is not ours without our signature", () => {
    const { bob, mallory } = pair();
    // Mallory's program believes that it runs at Bob's leaf; what it lacks is his signature key.
    const inside = Group.load(crypto, mallory.store);
    Object.defineProperty(internalsOf(inside).state, "ownLeaf", { value: bob.group.ownLeaf });
    const { message } = inside.createApplicationMessage(utf8("I am Bob"));
    expect(outcome(() => bob.group.receive(message))).toBe("mls/framing/signature");
    expect(outcome(() => bob.receive(mallory.say("hello")))).toBe("accepted");
  });
});

describe("a message that we have sent", () => {
  test("is unreadable when it comes once more", () => {
    const { bob } = pair();
    const message = bob.say("hello");
    bob.reload();
    expect(outcome(() => bob.group.receive(message))).toBe("mls/generation-spent");
    bob.commit();
    expect(outcome(() => bob.group.receive(message))).toBe("mls/generation-spent");
  });

  test("shows an older copy of the group what it is, as often as it comes", () => {
    const { bob, mallory } = pair();
    bob.say("before the copy");
    const copy = copyOf(bob);
    const messages = [bob.say("since the copy 1"), bob.say("since the copy 2")];
    const { message: commit } = mallory.commit();
    bob.store = copy;
    bob.reload();
    for (const message of [...messages, ...messages])
      expect(outcome(() => bob.group.receive(message))).toBe("mls/message/own");
    // In an epoch that is past by now, too.
    bob.receive(commit);
    expect(outcome(() => bob.group.receive(messages[0]!))).toBe("mls/message/own");
  });
});
