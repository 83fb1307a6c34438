import { toHex, utf8 } from "@murmuration/base";
import { expect, test } from "vitest";
import { findExtension, joinGroupInBatches } from "../../src/index.ts";
import { Client } from "../clients.ts";
import { providers } from "../providers.ts";

const SECRET = { type: 0xf0ee, data: utf8("only for those who are added") };

for (const { name, make } of providers) {
  const crypto = make(1);
  test(`${name}: what a commit says in its Welcome alone is told to those whom it adds, and stands in nothing else that leaves`, async () => {
    const alice = new Client("alice", crypto);
    const bob = new Client("bob", crypto);
    alice.create("flock");
    const keyPackage = bob.keyPackage();
    const { message, groupInfo, welcome } = alice.commit({
      proposals: [{ kind: "add", keyPackage: keyPackage.keyPackage }],
      groupInfo: { ratchetTree: true },
      welcomeExtensions: [SECRET],
    });
    for (const bytes of [message, groupInfo, welcome!])
      expect(toHex(bytes)).not.toContain(toHex(SECRET.data));

    const joined = await joinGroupInBatches(crypto, { welcome: welcome!, keyPackage });
    expect(findExtension(joined.extensions, SECRET.type)).toEqual(SECRET.data);
    expect(joined.group.epochAuthenticator()).toEqual(alice.group.epochAuthenticator());
  });

  test(`${name}: what it says in no Welcome, because it adds nobody, changes nothing`, () => {
    const alice = new Client("alice", crypto);
    alice.create("flock");
    const { groupInfo, welcome } = alice.commit({ welcomeExtensions: [SECRET] });
    expect(welcome).toBeUndefined();
    expect(toHex(groupInfo)).not.toContain(toHex(SECRET.data));
  });
}
