import {
  type AccountId,
  type Bytes,
  concatBytes,
  deviceId,
  encode,
  groupId,
  toHex,
  utf8,
} from "@murmuration/base";
import { sha256 } from "@noble/hashes/sha2.js";
import { describe, expect, test } from "vitest";
import {
  approveJoin,
  BanList,
  type CommunityContext,
  communityContextOf,
  communityExtensions,
  createJoinTicket,
  decodeCommunityContext,
  decodeJoinTicket,
  decodeMemberCredential,
  deviceOf,
  encodeCommunityContext,
  encodeJoinTicket,
  encodeKeyBinding,
  encodeMemberCredential,
  expectedAccount,
  type InviteLink,
  joinTicketOf,
  linkHasExpired,
  linkOf,
  nativeCrypto,
  roleOf,
  signForService,
  verifyApproval,
  verifyLinkSignature,
  verifyMemberCredential,
} from "../../src/index.ts";
import { accountOf, contextWith, expecting, identityOf, idOf, StandInIdentities } from "../community-kit.ts";
import { expectCode } from "../expect-error.ts";

const crypto = nativeCrypto(1);
const group = groupId(idOf("a community"));

/** Each truncation and one byte too many are refused with this code. */
function refusesEveryCut(bytes: Uint8Array, decode: (bytes: Uint8Array) => unknown, code: string): void {
  for (let length = 0; length < bytes.length; length++) {
    expectCode(() => decode(bytes.subarray(0, length)), code);
  }
  expectCode(() => decode(concatBytes(bytes, Uint8Array.of(0))), code);
}

function changed(bytes: Uint8Array, at: number, value: number): Bytes {
  const copy = new Uint8Array(bytes);
  copy[at] = value;
  return copy;
}

function bytesOf(credential: ReturnType<typeof encodeMemberCredential>): Uint8Array {
  if (credential.kind !== "basic") throw new Error(credential.kind);
  return credential.identity;
}

describe("the credential of a member", () => {
  const { credential, signatureKeys } = identityOf(crypto, { account: "alice", device: 3 });
  const malformed = "community/credential-malformed";

  test("is 212 bytes and comes back from them as it was", () => {
    expect(bytesOf(credential)).toHaveLength(212);
    const member = decodeMemberCredential(credential);
    expect(member.accountId).toEqual(accountOf("alice"));
    expect(encodeMemberCredential(member)).toEqual(credential);
    expect(deviceOf(credential)).toEqual({ accountId: accountOf("alice"), deviceId: 3 });
  });

  test("is refused when cut anywhere, with a byte too many, of another kind, version or device number", () => {
    for (const decode of [decodeMemberCredential, deviceOf]) {
      refusesEveryCut(bytesOf(credential), (identity) => decode({ kind: "basic", identity }), malformed);
      expectCode(() => decode({ kind: "x509", certificates: [bytesOf(credential)] }), malformed);
      for (const [at, value] of [
        [0, 0],
        [0, 2],
        [17, 0],
        [17, 128],
      ] as const) {
        const identity = changed(bytesOf(credential), at, value);
        expectCode(() => decode({ kind: "basic", identity }), malformed);
      }
    }
  });

  test("holds with the signature key that the device signed, and with nothing else", () => {
    const identity = new StandInIdentities();
    const { publicKey } = signatureKeys;
    expect(verifyMemberCredential(identity, credential, publicKey)).toBe(true);
    expect(verifyMemberCredential(identity, credential, changed(publicKey, 0, publicKey[0]! ^ 1))).toBe(
      false,
    );
    expect(verifyMemberCredential(identity, { kind: "basic", identity: utf8("alice") }, publicKey)).toBe(
      false,
    );
    // Every byte is covered by one of the two signatures or is one of them.
    for (let at = 0; at < 212; at++) {
      const damaged = changed(bytesOf(credential), at, bytesOf(credential)[at]! ^ 1);
      expect(
        verifyMemberCredential(identity, { kind: "basic", identity: damaged }, publicKey),
        `byte ${at}`,
      ).toBe(false);
    }
  });

  test("what a device signs is account, device number, account key and signature key, one behind the other", () => {
    const { accountIdentityKey } = decodeMemberCredential(credential);
    const about = { accountId: accountOf("alice"), deviceId: deviceId(3), accountIdentityKey };
    const expected = concatBytes(
      accountOf("alice"),
      Uint8Array.of(3),
      accountIdentityKey,
      Uint8Array.of(2, 7, 9),
    );
    expect(encodeKeyBinding({ ...about, signatureKey: Uint8Array.of(7, 9) })).toEqual(expected);
    const short = { ...about, accountIdentityKey: new Uint8Array(32), signatureKey: Uint8Array.of(7) };
    expectCode(() => encodeKeyBinding(short), "community/credential-field");
  });

  test("is not made of fields of another length", () => {
    const member = decodeMemberCredential(credential);
    const bad = { ...member, accountSignature: new Uint8Array(63) };
    expectCode(() => encodeMemberCredential(bad), "community/credential-field");
  });
});

describe("the context of a community", () => {
  const malformed = "community/context-malformed";
  const link = (name: string, fields: Partial<InviteLink> = {}): InviteLink => ({
    linkId: idOf(name),
    publicKey: new Uint8Array(32).fill(7),
    maxUses: 0,
    approval: false,
    expiresAtMs: 0,
    ...fields,
  });
  const full = contextWith(
    { owners: ["alice"], admins: ["bob", "carol"] },
    {
      links: [link("summer", { maxUses: 10 }), link("winter", { approval: true })],
      addBy: "admin",
      announcementOnly: true,
      slowModeSeconds: 30,
      banListHash: new Uint8Array(32).fill(1),
      profileHash: new Uint8Array(32).fill(2),
    },
  );

  test("has one encoding, whatever the order of its lists, and comes back in the canonical order", () => {
    const bytes = encodeCommunityContext(full);
    const turned: CommunityContext = {
      ...full,
      roleHolders: full.roleHolders.toReversed(),
      links: full.links.toReversed(),
    };
    expect(encodeCommunityContext(turned)).toEqual(bytes);
    const decoded = decodeCommunityContext(bytes);
    expect(encodeCommunityContext(decoded)).toEqual(bytes);
    expect(decoded).toMatchObject({
      generation: 1,
      addBy: "admin",
      announcementOnly: true,
      slowModeSeconds: 30,
    });
    expect(decoded.links.map(({ maxUses }) => maxUses).sort()).toEqual([0, 10]);
  });

  test("is refused when cut anywhere and with a byte too many", () => {
    refusesEveryCut(encodeCommunityContext(full), decodeCommunityContext, malformed);
    refusesEveryCut(
      encodeCommunityContext(contextWith({ owners: ["alice"] })),
      decodeCommunityContext,
      malformed,
    );
  });

  test("is refused with another version, an unknown role, a flag that is no flag, a hash of another length", () => {
    const bytes = encodeCommunityContext(contextWith({ owners: ["alice"] }));
    // version, generation[4], vector header, account id[16], role, links header, add_by, profile_by, announcement_only
    for (const [at, value] of [
      [0, 0],
      [0, 4],
      [22, 3],
      [22, 0],
      [24, 3],
      [25, 255],
      [26, 2],
    ] as const) {
      expectCode(() => decodeCommunityContext(changed(bytes, at, value)), malformed);
    }
    const withoutHashes = bytes.subarray(0, bytes.length - 2);
    const short = concatBytes(withoutHashes, Uint8Array.of(31), new Uint8Array(31), Uint8Array.of(0));
    expectCode(() => decodeCommunityContext(short), malformed);
  });

  const expected = ["dave", "erin"].map((name) => expecting(name));

  test.each([
    ["accounts expected", { expected, preparing: false }, 2],
    ["preparation", { expected: [], preparing: true }, 2],
    ["both", { expected, preparing: true }, 2],
    ["neither", { expected: [], preparing: false }, 1],
  ] as const)("has one encoding with %s", (_, fields, version) => {
    const bytes = encodeCommunityContext({ ...full, ...fields });
    expect(bytes[0]).toBe(version);
    const turned = { ...full, ...fields, expected: fields.expected.toReversed() };
    expect(encodeCommunityContext(turned)).toEqual(bytes);
    const decoded = decodeCommunityContext(bytes);
    expect(encodeCommunityContext(decoded)).toEqual(bytes);
    expect(decoded.preparing).toBe(fields.preparing);
    for (const one of fields.expected) expect(expectedAccount(decoded, one.accountId)).toEqual(one);
    expect(expectedAccount(decoded, accountOf("alice"))).toBeUndefined();
    refusesEveryCut(bytes, decodeCommunityContext, malformed);
  });

  test("is refused in version 2 with nothing of it, in another order, with an account twice, and beyond the limit", () => {
    const old = encodeCommunityContext(full);
    expectCode(() => decodeCommunityContext(concatBytes(changed(old, 0, 2), Uint8Array.of(0, 0))), malformed);
    const entries = expected.map(({ accountId, fingerprint }) => concatBytes(accountId, fingerprint));
    const [low, high] = entries.sort((a, b) => (toHex(a) < toHex(b) ? -1 : 1)) as [Uint8Array, Uint8Array];
    const withEntries = (...list: readonly Uint8Array[]) =>
      concatBytes(
        changed(old, 0, 2),
        encode(list, (writer, all) => writer.vector(all, (w, one) => w.fixed(one))),
        Uint8Array.of(0),
      );
    expect(decodeCommunityContext(withEntries(low, high)).expected).toHaveLength(2);
    expectCode(() => decodeCommunityContext(withEntries(high, low)), malformed);
    expectCode(() => decodeCommunityContext(withEntries(low, low)), malformed);
    expectCode(
      () => decodeCommunityContext(concatBytes(withEntries(low).slice(0, -1), Uint8Array.of(2))),
      malformed,
    );
    const many = Array.from({ length: 257 }, (_, index) => expecting(`account ${index}`));
    expect(
      decodeCommunityContext(encodeCommunityContext({ ...full, expected: many.slice(1) })).expected,
    ).toHaveLength(256);
    const invalid = "community/context-invalid";
    expectCode(() => encodeCommunityContext({ ...full, expected: many }), invalid);
    const short = [{ accountId: accountOf("dave"), fingerprint: new Uint8Array(31) }];
    expectCode(() => encodeCommunityContext({ ...full, expected: short }), invalid);
  });

  const expiring = [link("summer", { expiresAtMs: 1_700_000_000_000 }), link("winter")];

  test.each([
    ["a link that expires", {}],
    ["one, and accounts expected", { expected }],
    ["one, and preparation", { preparing: true }],
  ] as const)("has one encoding, in version 3, with %s", (_, fields) => {
    const context = { ...full, links: expiring, ...fields };
    const bytes = encodeCommunityContext(context);
    expect(bytes[0]).toBe(3);
    expect(encodeCommunityContext({ ...context, links: expiring.toReversed() })).toEqual(bytes);
    const decoded = decodeCommunityContext(bytes);
    expect(encodeCommunityContext(decoded)).toEqual(bytes);
    expect(expiring.map(({ linkId }) => linkOf(decoded, linkId))).toEqual(expiring);
    refusesEveryCut(bytes, decodeCommunityContext, malformed);
  });

  test("has the time at which a link expires behind it, and refuses version 3 without one and a time that is no number", () => {
    const [summer] = expiring as [InviteLink];
    const old = encodeCommunityContext({ ...full, links: [{ ...summer, expiresAtMs: 0 }] });
    const encoded = encode(summer, (w) => w.fixed(summer.linkId).fixed(summer.publicKey).uint32(0).uint8(0));
    const at = Buffer.from(old).indexOf(encoded) + encoded.length;
    const withTime = (time: bigint) =>
      concatBytes(
        changed(old, 0, 3).subarray(0, at - encoded.length - 1),
        Uint8Array.of(encoded.length + 8),
        encoded,
        encode(time, (w) => w.uint64(time)),
        old.subarray(at),
        Uint8Array.of(0, 0),
      );
    expect(encodeCommunityContext({ ...full, links: [summer] })).toEqual(withTime(1_700_000_000_000n));
    const largest = BigInt(Number.MAX_SAFE_INTEGER);
    expect(decodeCommunityContext(withTime(largest)).links).toMatchObject([
      { expiresAtMs: Number.MAX_SAFE_INTEGER },
    ]);
    for (const time of [0n, largest + 1n, 2n ** 64n - 1n])
      expectCode(() => decodeCommunityContext(withTime(time)), malformed);
  });

  test("of a link says whether it has expired: from that millisecond on, and never where there is none", () => {
    const at = (expiresAtMs: number) => [0, 999, 1_000].map((now) => linkHasExpired({ expiresAtMs }, now));
    expect(at(1_000)).toEqual([false, false, true]);
    expect(at(0)).toEqual([false, false, false]);
  });

  test("is refused without an owner, in another order, with an id twice, and beyond its limits", () => {
    const holders = (list: readonly { accountId: AccountId; role: number }[]) =>
      concatBytes(...list.map(({ accountId, role }) => concatBytes(accountId, Uint8Array.of(role))));
    const encoded = (roleHolders: Uint8Array, links: Uint8Array = new Uint8Array(0)) => {
      const vector = (bytes: Uint8Array) =>
        concatBytes(
          bytes.length < 64
            ? Uint8Array.of(bytes.length)
            : Uint8Array.of(0x40 | (bytes.length >> 8), bytes.length & 255),
          bytes,
        );
      const head = Uint8Array.of(1, 0, 0, 0, 1);
      return concatBytes(
        head,
        vector(roleHolders),
        vector(links),
        Uint8Array.of(0, 0, 0),
        new Uint8Array(14),
      );
    };
    const [low, high] = ["alice", "bob"].map(accountOf).sort((a, b) => (toHex(a) < toHex(b) ? -1 : 1)) as [
      AccountId,
      AccountId,
    ];
    expect(decodeCommunityContext(encoded(holders([{ accountId: low, role: 2 }]))).roleHolders).toHaveLength(
      1,
    );
    const admins = [
      { accountId: low, role: 1 },
      { accountId: high, role: 1 },
    ];
    expectCode(() => decodeCommunityContext(encoded(holders(admins))), malformed);
    const owners = [
      { accountId: high, role: 2 },
      { accountId: low, role: 2 },
    ];
    expectCode(() => decodeCommunityContext(encoded(holders(owners))), malformed);
    const twice = [
      { accountId: low, role: 1 },
      { accountId: low, role: 2 },
    ];
    expectCode(() => decodeCommunityContext(encoded(holders(twice))), malformed);
    const rising = (count: number, bytes: number) =>
      concatBytes(...Array.from({ length: count }, (_, i) => changed(new Uint8Array(bytes), 15, i)));
    const owner = holders([{ accountId: low, role: 2 }]);
    const aLink = 16 + 32 + 4 + 1;
    expect(decodeCommunityContext(encoded(owner, rising(16, aLink))).links).toHaveLength(16);
    expectCode(() => decodeCommunityContext(encoded(owner, rising(17, aLink))), malformed);
    const allOwners = (count: number) =>
      concatBytes(
        ...Array.from({ length: count }, (_, i) => changed(changed(new Uint8Array(17), 15, i), 16, 2)),
      );
    expect(decodeCommunityContext(encoded(allOwners(50))).roleHolders).toHaveLength(50);
    expectCode(() => decodeCommunityContext(encoded(allOwners(51))), malformed);
  });

  test("that could not be decoded is not encoded", () => {
    const invalid = "community/context-invalid";
    for (const fields of [
      { roleHolders: [] },
      { roleHolders: [...full.roleHolders, full.roleHolders[0]!] },
      { links: [link("a", { publicKey: new Uint8Array(31) })] },
      { links: [link("a", { expiresAtMs: -1 })] },
      { links: [link("a", { expiresAtMs: 0.5 })] },
      { links: [link("a", { expiresAtMs: 2 ** 53 })] },
      { links: Array.from({ length: 17 }, (_, i) => link(`link ${i}`)) },
      { generation: -1 },
      { expireAfterSeconds: 2 ** 32 },
      { slowModeSeconds: 0.5 },
      { banListHash: new Uint8Array(16) },
    ] satisfies Partial<CommunityContext>[]) {
      expectCode(() => encodeCommunityContext({ ...full, ...fields }), invalid);
    }
  });

  test("is found among the extensions of a group, and says which role an account has", () => {
    const extensions = communityExtensions(full);
    const context = communityContextOf(extensions);
    expect(communityContextOf(extensions)).toBe(context);
    expect(["alice", "bob", "dave"].map((name) => roleOf(context, accountOf(name)))).toEqual([
      "owner",
      "admin",
      "member",
    ]);
    expectCode(() => communityContextOf([]), malformed);
  });
});

describe("a ban list", () => {
  const malformed = "community/ban-list-malformed";

  test("has those who were put on it, until they are taken off, in whatever order", () => {
    const list = BanList.empty.with(group, accountOf("mallory")).with(group, accountOf("trudy"));
    const other = BanList.empty.with(group, accountOf("trudy")).with(group, accountOf("mallory"));
    expect(list.encode()).toEqual(other.encode());
    expect(list.size).toBe(2);
    expect(list.has(group, accountOf("mallory"))).toBe(true);
    expect(list.has(group, accountOf("alice"))).toBe(false);
    expect(list.has(groupId(idOf("another community")), accountOf("mallory"))).toBe(false);
    expect(list.with(group, accountOf("trudy"))).toBe(list);
    expect(list.without(group, accountOf("alice"))).toBe(list);
    const without = list.without(group, accountOf("mallory"));
    expect([without.size, without.has(group, accountOf("mallory")), list.size]).toEqual([1, false, 2]);
    expect(BanList.decode(list.encode()).hash()).toEqual(list.hash());
  });

  test("is hashed as it is encoded, and the empty list has no hash", () => {
    const list = BanList.empty.with(group, accountOf("mallory"));
    const entry = sha256(concatBytes(utf8("Murmuration Banned"), group, accountOf("mallory"))).subarray(
      0,
      16,
    );
    expect(list.encode()).toEqual(new Uint8Array(entry));
    expect(list.hash()).toEqual(new Uint8Array(sha256(entry)));
    expect(BanList.empty.hash()).toHaveLength(0);
    expect(BanList.decode(new Uint8Array(0)).size).toBe(0);
  });

  test("is refused when an entry is cut, when entries fall or stand twice, and beyond 4,096", () => {
    const entries = BanList.empty.with(group, accountOf("mallory")).with(group, accountOf("trudy")).encode();
    for (let length = 1; length < entries.length; length++) {
      if (length !== 16) expectCode(() => BanList.decode(entries.subarray(0, length)), malformed);
    }
    expectCode(() => BanList.decode(concatBytes(entries, Uint8Array.of(0))), malformed);
    const [first, second] = [entries.subarray(0, 16), entries.subarray(16)];
    expectCode(() => BanList.decode(concatBytes(second, first)), malformed);
    expectCode(() => BanList.decode(concatBytes(first, first)), malformed);
    const many = new Uint8Array(4_097 * 16);
    for (let i = 0; i < 4_097; i++) new DataView(many.buffer).setUint32(i * 16, i);
    const whole = BanList.decode(many.subarray(0, 4_096 * 16));
    expect(whole.size).toBe(4_096);
    expectCode(() => BanList.decode(many), malformed);
    expectCode(() => whole.with(group, accountOf("mallory")), "community/ban-list-full");
  });
});

describe("a ticket to join by a link", () => {
  const malformed = "community/join-ticket-malformed";
  const { publicKey, privateKey: linkSeed } = crypto.generateSignatureKeyPair();
  const admin = crypto.generateSignatureKeyPair();
  const { publicKey: signatureKey } = crypto.generateSignatureKeyPair();
  const linkId = idOf("summer");
  const link: InviteLink = { linkId, publicKey, maxUses: 0, approval: true, expiresAtMs: 0 };
  const use = { groupId: group, linkId, signatureKey };
  const approver = {
    groupId: group,
    ownLeaf: 5,
    signForService: (label: string, content: Uint8Array) =>
      signForService(crypto, admin.privateKey, label, content),
  };
  const approval = approveJoin(approver, { linkId, signatureKey });

  test("comes back from the extension of a leaf as it was, with and without approval", () => {
    for (const ticket of [
      createJoinTicket(crypto, { ...use, linkSeed }),
      createJoinTicket(crypto, { ...use, linkSeed, approval }),
    ]) {
      const extension = encodeJoinTicket(ticket);
      expect(joinTicketOf([extension])).toEqual(ticket);
      refusesEveryCut(extension.data, decodeJoinTicket, malformed);
    }
    expect(joinTicketOf([])).toBeUndefined();
  });

  test("is refused with an approver who approved nothing, and with an oversize approval", () => {
    const { data } = encodeJoinTicket(createJoinTicket(crypto, { ...use, linkSeed }));
    expectCode(() => decodeJoinTicket(changed(data, data.length - 1, 1)), malformed);
    const ticket = createJoinTicket(crypto, { ...use, linkSeed, approval });
    const long = { approver: 1, signature: new Uint8Array(257) };
    const oversize = encodeJoinTicket({ ...ticket, approval: long });
    expectCode(() => decodeJoinTicket(oversize.data), malformed);
  });

  test("holds for this group, link and joiner and for no other", () => {
    const { linkSignature } = createJoinTicket(crypto, { ...use, linkSeed });
    expect(verifyLinkSignature(crypto, link, use, linkSignature)).toBe(true);
    expect(verifyApproval(crypto, admin.publicKey, use, approval.signature)).toBe(true);
    for (const other of [
      { ...use, groupId: groupId(idOf("another community")) },
      { ...use, linkId: idOf("winter") },
      { ...use, signatureKey: admin.publicKey },
    ]) {
      expect(verifyLinkSignature(crypto, link, other, linkSignature)).toBe(false);
      expect(verifyApproval(crypto, admin.publicKey, other, approval.signature)).toBe(false);
    }
    // Neither signature can stand for the other, even by one and the same key.
    expect(verifyApproval(crypto, publicKey, use, linkSignature)).toBe(false);
  });

  test("is signed with Ed25519 alone", () => {
    const p256 = nativeCrypto(2);
    expectCode(() => createJoinTicket(p256, { ...use, linkSeed }), "community/link-needs-ed25519");
    expect(verifyLinkSignature(p256, link, use, new Uint8Array(64))).toBe(false);
    const seed = linkSeed.subarray(1);
    expectCode(() => createJoinTicket(crypto, { ...use, linkSeed: seed }), "community/link-seed");
  });
});
