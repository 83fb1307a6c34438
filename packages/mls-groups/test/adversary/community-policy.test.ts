import { describe, expect, test } from "vitest";
import type { CommunityRuleId } from "../../src/community/rules.ts";
import {
  approveJoin,
  type CommunityContext,
  communityExtensions,
  communityLeaf,
  createJoinTicket,
  createNewMemberProposal,
  type Extension,
  encodeJoinTicket,
  type InviteLink,
  joinGroup,
  joinGroupExternally,
  type KeyPackageOptions,
  nativeCrypto,
  type Proposal,
} from "../../src/index.ts";
import { PublicGroup } from "../../src/public-group/index.ts";
import type { RuleId } from "../../src/rules.ts";
import { contextWith, Device, type DeviceOf, expecting, idOf } from "../community-kit.ts";
import { bans, type Insider, World, type WorldOptions } from "../community-world.ts";
import { memoryOf, outcome, without } from "./careless.ts";

/*
 * docs/communities.md, "Who may commit what", as one table of cases. Each is put to three judges: the committer's own
 * engine, another member and the follower of a delivery service. All three say the same.
 */

const crypto = nativeCrypto(1);

/** What somebody does: returns the commit. May be done again and again. */
type Act = (world: World) => Uint8Array;

/** All three judges let it pass. */
function allowed(story: string, act: Act, options?: WorldOptions): void {
  test(`allowed: ${story}`, () => {
    const world = new World(options);
    const message = act(world);
    const { group } = world.device("wanda");
    expect([outcome(() => group.receive(message)), outcome(() => world.follower.receive(message))]).toEqual([
      "accepted",
      "accepted",
    ]);
  });
}

/**
 * All three judges refuse it by this rule. It is made by somebody who does not know the rule, nor those in `also`, which
 * it breaks too; without them every judge lets it pass. No state changes.
 */
function refused(
  rule: CommunityRuleId,
  story: string,
  act: Act,
  options?: WorldOptions,
  also: readonly RuleId[] = [],
): void {
  test(`${rule}: ${story}`, () => {
    const world = new World(options);
    const wanda = world.device("wanda");
    const judges = (message: Uint8Array) => [
      outcome(() => wanda.group.receive(message)),
      outcome(() => world.follower.receive(message)),
    ];
    const message = without([rule, ...also], () => act(world));
    const toItsMaker = outcome(() => act(world));
    const state = () => [memoryOf(wanda), world.follower.epoch, world.follower.proposals.length];
    const before = state();
    expect([toItsMaker, ...judges(message)]).toEqual([rule, rule, rule]);
    expect(without([rule], () => judges(message))).not.toContain(rule);
    expect(without([rule, ...also], () => judges(message))).toEqual(["accepted", "accepted"]);
    expect(state()).toEqual(before);
  });
}

/** One committer of each role; none of them is the only one of it. */
const committers = { member: "mia", admin: "adam", owner: "olga" } as const satisfies Record<string, Insider>;
type Committer = keyof typeof committers;
const all = ["member", "admin", "owner"] as const;

/** The same act by each role: allowed for some and refused by a rule for the others. */
function row(
  story: string,
  may: readonly Committer[],
  rule: CommunityRuleId | undefined,
  act: (world: World, by: Insider) => Uint8Array,
  options?: WorldOptions,
  also?: Partial<Record<Committer, readonly [CommunityRuleId, ...CommunityRuleId[]]>>,
): void {
  for (const role of all) {
    const by = committers[role];
    const named = `${story}, by ${role === "member" ? "a" : "an"} ${role}`;
    if (may.includes(role)) allowed(named, (world) => act(world, by), options);
    else {
      const [first = rule!, ...others] = also?.[role] ?? [];
      refused(first, named, (world) => act(world, by), options, others);
    }
  }
}

function add(world: World, of: DeviceOf, options?: KeyPackageOptions): Proposal {
  return { kind: "add", keyPackage: world.outsider(of).keyPackage(options).keyPackage };
}

const commit =
  (...proposals: ((world: World, by: Insider) => Proposal)[]) =>
  (world: World, by: Insider): Uint8Array =>
    world.commit(world.device(by), { proposals: proposals.map((make) => make(world, by)) });

const change = (fields: Partial<CommunityContext>) => commit((world) => world.change(fields));
const psk: Proposal = {
  kind: "psk",
  psk: { kind: "external", pskId: Uint8Array.of(1), pskNonce: new Uint8Array(32) },
};
const resumption = (world: World): Proposal => {
  const { groupId, epoch } = world.device("olga").group;
  return {
    kind: "psk",
    psk: {
      kind: "resumption",
      usage: "application",
      pskGroupId: groupId,
      pskEpoch: epoch - 1n,
      pskNonce: new Uint8Array(32),
    },
  };
};
const reinit: Proposal = {
  kind: "reinit",
  groupId: Uint8Array.of(1),
  version: 1,
  cipherSuite: 1,
  extensions: [],
};

const summer = crypto.generateSignatureKeyPair();
const link = (fields: Partial<InviteLink> = {}): InviteLink => ({
  linkId: idOf("summer"),
  publicKey: summer.publicKey,
  maxUses: 0,
  approval: false,
  expiresAtMs: 0,
  ...fields,
});
const open = (fields: Partial<InviteLink> = {}): WorldOptions => ({ fields: { links: [link(fields)] } });

/** Somebody joins by the summer link, and all follow. */
function enter(world: World, account: string): Device {
  const guest = world.outsider({ account });
  world.all(world.join(guest, ticket(guest)));
  guest.save(guest.group.confirmJoin());
  return guest;
}

/** A ticket of the summer link for this device. */
function ticket(
  joiner: Device,
  change: Partial<Parameters<typeof createJoinTicket>[1]> = {},
): readonly Extension[] {
  const { publicKey: signatureKey } = joiner.identity.signatureKeys;
  const use = { groupId: idOf("a community"), linkId: idOf("summer"), signatureKey };
  return [encodeJoinTicket(createJoinTicket(crypto, { ...use, linkSeed: summer.privateKey, ...change }))];
}

describe("Add", () => {
  const strict = { fields: { addBy: "owner" } } as const;
  row(
    "a device of one's own account",
    all,
    undefined,
    commit((world, by) => add(world, { account: by, device: 3 })),
    strict,
  );
  const others = commit((world) => add(world, { account: "nina" }));
  row("another account where members may", all, undefined, others, { fields: { addBy: "member" } });
  row("another account where admins may", ["admin", "owner"], "community/add-others", others, {
    fields: { addBy: "admin" },
  });
  row("another account where owners may", ["owner"], "community/add-others", others, strict);
  row(
    "a device of another member where owners may",
    ["owner"],
    "community/add-others",
    commit((world) => add(world, { account: "max", device: 2 })),
    strict,
  );
  row("a banned account", [], "community/add-banned", others, { banned: ["trudy", "nina"] });
  row(
    "a device of one's own account, which is banned",
    [],
    "community/add-banned",
    commit((world, by) => add(world, { account: by, device: 3 })),
    { banned: ["mia", "adam", "olga"] },
  );

  const banning = (world: World) => world.change({ banListHash: world.ban("nina").hash() });
  const addNina = (world: World) => add(world, { account: "nina" });
  row(
    "an account that the same commit bans",
    [],
    "community/add-banned",
    commit(banning, addNina),
    undefined,
    {
      member: ["community/settings", "community/add-banned"],
    },
  );
  const pardoning = (world: World) => world.change({ banListHash: world.ban("trudy").hash() });
  row(
    "an account that the same commit pardons",
    ["admin", "owner"],
    "community/settings",
    commit(pardoning, addNina),
    {
      banned: ["nina", "trudy"],
    },
  );
});

describe("whoever comes in", () => {
  const impostor = { account: "mia", device: 3, accountKey: "mallory" };
  row(
    "a leaf with another account key than its account has",
    [],
    "community/account-key",
    commit((world) => add(world, impostor)),
  );
  const stranger = (key: string, device: number) => (world: World) =>
    add(world, { account: "nina", device, accountKey: key });
  row(
    "two leaves of an account with two account keys",
    [],
    "community/account-key",
    commit(stranger("nina", 1), stranger("nora", 2)),
  );
  // The signature key and the device's signature over it are new, so the credential is not equal to that in the tree.
  row(
    "a device that is a member already, with another signature key",
    [],
    "community/device-once",
    commit((world) => add(world, { account: "max", device: 1 })),
  );
  row("the same device twice", [], "community/device-once", commit(stranger("nina", 1), stranger("nina", 1)));
  // Nobody would be told that somebody else stands for the account now.
  const replaced = (accountKey: string) => (world: World) =>
    world.commit(world.device("adam"), {
      proposals: [{ kind: "remove", removed: world.leaf("max") }, add(world, { account: "max", accountKey })],
    });
  refused(
    "community/account-key",
    "an account under another key in the commit that removes its leaves",
    replaced("mallory"),
  );
  allowed(
    "an account whose device began anew comes back in the commit that removes its old leaf",
    replaced("max"),
  );
  const holders = (world: World) => world.commit(world.device("otto"), { proposals: [world.change(roles)] });
  const roles = {
    roleHolders: [
      ...contextWith({ owners: ["olga", "otto", "away"], admins: ["adam", "anna", "absent"] }).roleHolders,
    ],
  };
  allowed("an owner gives roles to accounts that have no leaf yet", holders);
  row(
    "an absent admin",
    ["admin", "owner"],
    "community/role-holder-brought",
    commit((world) => add(world, { account: "absent" })),
    { fields: roles },
  );
  row(
    "an absent owner",
    ["owner"],
    "community/role-holder-brought",
    commit((world) => add(world, { account: "away" })),
    { fields: roles },
  );
  refused(
    "community/role-holder-brought",
    "an absent admin by a link",
    (world) => {
      const absent = world.outsider({ account: "absent" });
      return world.join(absent, ticket(absent));
    },
    { fields: { ...roles, links: [link()] } },
  );
  allowed(
    "another device of an admin by a link",
    (world) => {
      const anna = world.outsider({ account: "anna", device: 2 });
      return world.join(anna, ticket(anna));
    },
    open(),
  );
  refused(
    "community/account-key",
    "an impostor of an owner by a link",
    (world) => {
      const mallory = world.outsider({ account: "olga", device: 3, accountKey: "mallory" });
      return world.join(mallory, ticket(mallory));
    },
    open(),
  );
  refused(
    "community/device-once",
    "a device that is a member already, by a link",
    (world) => {
      const olga = world.outsider({ account: "olga", device: 2 });
      return world.join(olga, ticket(olga));
    },
    open(),
  );
});

describe("Remove", () => {
  const remove = (account: Insider, device = 1) =>
    commit((world) => ({ kind: "remove", removed: world.leaf(account, device) }));
  row("a leaf of one's own account", all, undefined, (world, by) => {
    const removed = world.leaf(by, 2);
    return world.commit(world.device(by), { proposals: [{ kind: "remove", removed }] });
  });
  row("a member", ["admin", "owner"], "community/remove-others", remove("max"));
  row("an admin", ["admin", "owner"], "community/remove-others", remove("anna"));
  row("an owner", ["owner"], "community/remove-owners", remove("otto"), undefined, {
    member: ["community/remove-others", "community/remove-owners"],
  });
});

describe("Remove of an account that is expected", () => {
  const expected = [expecting("max"), expecting("mia")];
  const options: WorldOptions = { fields: { expected } };
  const removeMax = (world: World): Proposal => ({ kind: "remove", removed: world.leaf("max") });
  refused(
    "community/remove-expected",
    "a member that stays on the list",
    (world) => world.commit(world.device("adam"), { proposals: [removeMax(world)] }),
    options,
  );
  allowed(
    "a member that is taken off it by the same commit",
    (world) =>
      world.commit(world.device("adam"), {
        proposals: [removeMax(world), world.change({ expected: [expecting("mia")] })],
      }),
    options,
  );
  allowed(
    "a member's own other device, which may come back",
    (world) =>
      world.commit(world.device("mia"), { proposals: [{ kind: "remove", removed: world.leaf("mia", 2) }] }),
    options,
  );
  allowed(
    "a member that leaves, whoever commits it",
    (world) => {
      const reference = world.propose(world.device("max"), { kind: "self_remove" }, world.device("mia"));
      return world.commit(world.device("mia"), { cached: [reference] });
    },
    options,
  );
});

describe("SelfRemove by reference", () => {
  row("of a member", all, undefined, (world, by) => {
    const committer = world.device(by);
    const reference = world.propose(world.device("max"), { kind: "self_remove" }, committer);
    return world.commit(committer, { cached: [reference] });
  });
  row("of an owner", all, undefined, (world, by) => {
    const committer = world.device(by);
    const reference = world.propose(world.device("otto"), { kind: "self_remove" }, committer);
    return world.commit(committer, { cached: [reference] });
  });
});

describe("PreSharedKey, ReInit", () => {
  row(
    "a PSK, in a group that a conversation moves to",
    ["admin", "owner"],
    "community/psk",
    commit(() => psk),
    { fields: { generation: 1 } },
  );
  row(
    "a PSK, in any other group",
    [],
    "community/psk",
    commit(() => psk),
  );
  row(
    "a PSK of an earlier epoch",
    [],
    "community/psk",
    commit((world) => resumption(world)),
    { fields: { generation: 1 } },
  );
  row(
    "a ReInit",
    [],
    "community/reinit",
    commit(() => reinit),
  );
});

describe("GroupContextExtensions", () => {
  const list = contextWith({ owners: ["olga"], admins: ["mia"] }).roleHolders;
  row("roles", ["owner"], "community/roles", change({ roleHolders: list }));
  row("links", ["admin", "owner"], "community/settings", change({ links: [link()] }));
  row(
    "when a link expires",
    ["admin", "owner"],
    "community/settings",
    change({ links: [link({ expiresAtMs: 2 })] }),
    open({ expiresAtMs: 1 }),
  );
  row("who may add", ["admin", "owner"], "community/settings", change({ addBy: "owner" }));
  row(
    "who may change the profile",
    ["admin", "owner"],
    "community/settings",
    change({ profileBy: "member" }),
  );
  row("announcements only", ["admin", "owner"], "community/settings", change({ announcementOnly: true }));
  row("slow mode", ["admin", "owner"], "community/settings", change({ slowModeSeconds: 30 }));
  row("joins per minute", ["admin", "owner"], "community/settings", change({ joinsPerMinute: 5 }));
  row("timer", ["admin", "owner"], "community/settings", change({ expireAfterSeconds: 86_400 }));
  row(
    "ban list",
    ["admin", "owner"],
    "community/settings",
    commit((world) => world.change({ banListHash: world.ban("trudy").hash() })),
  );
  row(
    "the ban list away",
    ["admin", "owner"],
    "community/settings",
    change({ banListHash: new Uint8Array(0) }),
    { banned: ["trudy"] },
  );
  row(
    "expected accounts",
    ["admin", "owner"],
    "community/settings",
    change({ expected: [expecting("nina")] }),
  );
  row("the end of preparation", ["admin", "owner"], "community/settings", change({ preparing: false }), {
    fields: { preparing: true },
  });
  row("preparation again", [], "community/preparing", change({ preparing: true }), undefined, {
    member: ["community/settings", "community/preparing"],
  });
  row("generation", ["admin", "owner"], "community/settings", change({ generation: 2 }), {
    fields: { generation: 1 },
  });
  for (const [name, from, to] of [
    ["generation back", 5, 4],
    ["a generation where there is none", 0, 1],
  ] as const)
    row(
      name,
      [],
      "community/generation",
      change({ generation: to }),
      { fields: { generation: from } },
      { member: ["community/settings", "community/generation"] },
    );
  row(
    "a ban list that nobody has",
    [],
    "community/ban-list-unknown",
    change({ banListHash: bans("trudy").hash() }),
    undefined,
    {
      member: ["community/settings", "community/ban-list-unknown"],
    },
  );
  const profile = change({ profileHash: new Uint8Array(32) });
  row("group profile where members may", all, undefined, profile, { fields: { profileBy: "member" } });
  row("group profile where admins may", ["admin", "owner"], "community/profile", profile, {
    fields: { profileBy: "admin" },
  });
  row("group profile where owners may", ["owner"], "community/profile", profile, {
    fields: { profileBy: "owner" },
  });
  row("nothing at all", all, undefined, change({}));
  const listed = (extension: Extension) =>
    commit(
      (world): Proposal => ({
        kind: "group_context_extensions",
        extensions: [...communityExtensions(world.context), extension],
      }),
    );
  // external_senders with nobody in it.
  row("another extension", [], "community/other-extensions", listed({ type: 5, data: Uint8Array.of(0) }));
  row(
    "required_capabilities",
    [],
    "community/other-extensions",
    commit((world): Proposal => {
      const [, context] = communityExtensions(world.context);
      const required = { type: 3, data: Uint8Array.of(2, 0xf0, 0xa1, 0, 0) };
      return { kind: "group_context_extensions", extensions: [required, context!] };
    }),
  );
});

describe("a context that is no community's", () => {
  const acts: [string, (world: World) => readonly Extension[]][] = [
    ["the extension taken away", (world) => communityExtensions(world.context).slice(0, 1)],
    [
      "a context without owners",
      (world) => {
        const [required, { type, data }] = communityExtensions(world.context) as [Extension, Extension];
        // Both owners and both admins: the role is the last of 17 bytes, behind version, generation and header.
        const holders = new Uint8Array(data);
        for (let i = 0; i < 4; i++) holders[7 + 17 * i + 16] = 1;
        return [required, { type, data: holders }];
      },
    ],
  ];
  test.each(acts)("%s is refused by every judge", (_, extensions) => {
    const world = new World();
    const olga = world.device("olga");
    const proposal: Proposal = { kind: "group_context_extensions", extensions: extensions(world) };
    const malformed = "community/context-malformed";
    expect(outcome(() => world.commit(olga, { proposals: [proposal] }))).toBe(malformed);
    // A proposal can be sent, and is never committed.
    world.propose(olga, proposal, world.device("otto"));
    const otto = world.device("otto");
    expect(outcome(() => otto.group.createCommit())).toBe("accepted");
    expect(otto.group.pendingCommit!.public.proposals).toEqual([]);
  });
});

describe("Update and strangers", () => {
  row("an Update of another member", [], "community/update", (world, by) => {
    const { message, writes } = world.device("max").group.proposeUpdate();
    world.device("max").save(writes);
    const reference = world.hear(message, [world.device(by)]);
    return world.commit(world.device(by), { cached: [reference] });
  });
  row("a newcomer's proposal to be added", [], "community/stranger", (world, by) => {
    const bundle = world.outsider({ account: "nina" }).keyPackage();
    const { groupId, epoch } = world.follower.context;
    const message = createNewMemberProposal(crypto, { groupId, epoch }, bundle);
    const reference = world.hear(message, [world.device(by)]);
    return world.commit(world.device(by), { cached: [reference] });
  });
});

describe("proposals by reference", () => {
  const referred =
    (proposer: Insider, committer: Insider, make: (world: World) => Proposal): Act =>
    (world) => {
      const reference = world.propose(world.device(proposer), make(world), world.device(committer));
      return world.commit(world.device(committer), { cached: [reference] });
    };
  const removeMax = (world: World): Proposal => ({ kind: "remove", removed: world.leaf("max") });
  const rolesFor = (world: World) =>
    world.change({ roleHolders: contextWith({ owners: ["olga", "mia"] }).roleHolders });
  allowed("an admin's Remove, committed by an owner", referred("adam", "olga", removeMax));
  refused(
    "community/remove-others",
    "a member's Remove, committed by an owner",
    referred("mia", "olga", removeMax),
  );
  refused(
    "community/remove-others",
    "an admin's Remove, committed by a member",
    referred("adam", "mia", removeMax),
  );
  refused(
    "community/roles",
    "a member's promotion of itself, committed by an owner",
    referred("mia", "olga", rolesFor),
  );
  refused(
    "community/psk",
    "a member's PSK, committed by an admin",
    referred("mia", "adam", () => psk),
  );
  refused(
    "community/add-others",
    "a member's Add, committed by an admin",
    referred("mia", "adam", (world) => add(world, { account: "nina" })),
    { fields: { addBy: "admin" } },
  );
  allowed(
    "a member's removal of its own other device, committed by an admin",
    referred("mia", "adam", (world) => ({ kind: "remove", removed: world.leaf("mia", 2) })),
  );

  test("what must not be committed is left out by an owner who commits all that waits", () => {
    const world = new World();
    const olga = world.device("olga");
    world.propose(world.device("mia"), rolesFor(world), olga);
    const left = world.propose(world.device("max"), { kind: "self_remove" }, olga);
    olga.group.createCommit();
    expect(olga.group.pendingCommit!.public.proposals.map(({ reference }) => reference)).toEqual([left]);
  });
});

describe("external commits", () => {
  const nina = (world: World) => world.outsider({ account: "nina" });
  const joins =
    (change: (world: World, joiner: Device) => readonly Extension[] | undefined): Act =>
    (world) => {
      const joiner = nina(world);
      return world.join(joiner, change(world, joiner) ?? []);
    };
  const byLink = joins((_, joiner) => ticket(joiner));
  allowed("a join by a link", byLink, open());
  allowed("a resync of one's own leaf", (world) =>
    world.join(world.device("max"), undefined, { removes: world.leaf("max") }),
  );
  refused(
    "community/ticket",
    "a join without a ticket",
    joins(() => undefined),
    open(),
  );
  refused("community/link", "a ticket of a link that is not in the context", byLink);
  refused(
    "community/link",
    "a ticket of another link",
    joins((_, joiner) => ticket(joiner, { linkId: idOf("winter") })),
    open(),
  );
  refused(
    "community/link-signature",
    "a ticket that another key signed",
    joins((_, joiner) => ticket(joiner, { linkSeed: new Uint8Array(32) })),
    open(),
  );
  refused(
    "community/link-signature",
    "a ticket for another joiner",
    joins((world) => ticket(world.outsider({ account: "nora" }))),
    open(),
  );
  refused(
    "community/link-signature",
    "a ticket for another group",
    joins((_, joiner) => ticket(joiner, { groupId: idOf("another community") })),
    open(),
  );
  refused("community/join-banned", "a banned account by a link", byLink, { ...open(), banned: ["nina"] });
  refused(
    "community/join-banned",
    "a resync of a banned account",
    (world) => world.join(world.device("max"), undefined, { removes: world.leaf("max") }),
    { banned: ["max"] },
  );
  refused(
    "community/psk",
    "a PSK in a join",
    (world) => {
      const joiner = nina(world);
      const { psk: id } = psk as Extract<Proposal, { kind: "psk" }>;
      return world.join(joiner, ticket(joiner), { pskIds: [id] });
    },
    open(),
  );

  describe("of accounts that were left behind", () => {
    const expects = (...accounts: readonly string[]): WorldOptions => ({
      fields: { expected: accounts.map((account) => expecting(account)) },
    });
    const comes = (of: DeviceOf) => (world: World) => world.join(world.outsider(of), []);
    allowed("a device of an expected account", comes({ account: "nina" }), expects("nina", "nora"));
    allowed("another device of it, when one is here", comes({ account: "mia", device: 3 }), expects("mia"));
    refused("community/ticket", "a device of another account", comes({ account: "nils" }), expects("nina"));
    refused(
      "community/expected-key",
      "an impostor under an account key of its own",
      comes({ account: "nina", accountKey: "mallory" }),
      expects("nina"),
    );
    refused(
      "community/account-key",
      "an impostor beside a device that is here",
      comes({ account: "mia", device: 3, accountKey: "mallory" }),
      expects("mia"),
      ["community/expected-key"],
    );
    refused(
      "community/device-once",
      "a device that is here",
      comes({ account: "mia", device: 2 }),
      expects("mia"),
    );
    refused("community/join-banned", "a banned one", comes({ account: "nina" }), {
      ...expects("nina"),
      banned: ["nina"],
    });
    refused(
      "community/link",
      "one that brings a ticket of no link",
      (world) => {
        const joiner = world.outsider({ account: "nina" });
        return world.join(joiner, ticket(joiner));
      },
      expects("nina"),
    );
    const holder = {
      roleHolders: contextWith({ owners: ["olga", "otto", "away"], admins: ["adam", "anna"] }).roleHolders,
    };
    allowed("an owner that has no leaf", comes({ account: "away" }), {
      fields: { ...holder, expected: [expecting("away")] },
    });
    refused(
      "community/expected-key",
      "an impostor of an owner that has no leaf",
      comes({ account: "away", accountKey: "mallory" }),
      { fields: { ...holder, expected: [expecting("away")] } },
    );
  });

  test("community/link-uses: a link is used up by the leaves that carry its id, and by no others", () => {
    const world = new World(open({ maxUses: 2 }));
    const wanda = world.device("wanda");
    const verdicts = (message: Uint8Array) => [
      outcome(() => wanda.group.receive(message)),
      outcome(() => world.follower.receive(message)),
    ];
    enter(world, "guest");
    expect(verdicts(byLink(world))).toEqual(["accepted", "accepted"]);
    enter(world, "second guest");
    const third = without(["community/link-uses"], () => byLink(world));
    const code = "community/link-uses";
    expect([outcome(() => byLink(world)), ...verdicts(third)]).toEqual([code, code, code]);
    // A guest that is removed makes room.
    const adam = world.device("adam");
    const { message } = adam.commit({ proposals: [{ kind: "remove", removed: 10 }] });
    world.all(message, adam);
    expect(verdicts(byLink(world))).toEqual(["accepted", "accepted"]);
  });

  test("community/link-expired: a link lets in until it expires, and 2 minutes longer for clocks, by the service's word", () => {
    const noon = 1_700_000_000_000;
    const world = new World(open({ expiresAtMs: noon }));
    const wanda = world.device("wanda");
    const message = byLink(world);
    const before = memoryOf(wanda);
    const acceptedAt = (acceptedAtMs: number | undefined) =>
      outcome(() => wanda.group.receive(message, { acceptedAtMs }));
    const code = "community/link-expired";
    const tolerated = noon + 120_000;
    expect([noon - 1, noon, tolerated - 1, tolerated, noon + 86_400_000].map(acceptedAt)).toEqual([
      "accepted",
      "accepted",
      "accepted",
      code,
      code,
    ]);
    expect(memoryOf(wanda)).toEqual(before);
    // Whoever makes the commit, and a follower, know no such time; nor does anybody of a commit that is fed again.
    expect([acceptedAt(undefined), outcome(() => world.follower.receive(message))]).toEqual([
      "accepted",
      "accepted",
    ]);
    expect(without([code], () => acceptedAt(noon + 86_400_000))).toBe("accepted");
  });

  test("a link that never expires lets in at any time, and who came by one that has expired comes back", () => {
    const endless = new World(open());
    const late = { acceptedAtMs: Number.MAX_SAFE_INTEGER };
    const toWanda = (world: World, message: Uint8Array) =>
      outcome(() => world.device("wanda").group.receive(message, late));
    expect(toWanda(endless, byLink(endless))).toBe("accepted");
    const world = new World(open({ expiresAtMs: 1 }));
    const guest = enter(world, "guest");
    const removes = world.follower.tree.leafBySignatureKey(guest.identity.signatureKeys.publicKey)!;
    expect(toWanda(world, world.join(guest, undefined, { removes }))).toBe("accepted");
  });

  const approval = { ...open({ approval: true }) };
  const approvedBy = (
    account: Insider,
    of?: Partial<{ signatureKey: Uint8Array; linkId: Uint8Array }>,
  ): Act =>
    joins((world, joiner) => {
      const { publicKey: signatureKey } = joiner.identity.signatureKeys;
      const word = approveJoin(world.device(account).group, { linkId: idOf("summer"), signatureKey, ...of });
      return ticket(joiner, { approval: word });
    });
  allowed("a join that an admin approved", approvedBy("adam"), approval);
  allowed("a join that an owner approved", approvedBy("olga"), approval);
  refused("community/link-approval", "a join that nobody approved", byLink, approval);
  refused("community/link-approval", "a join that a member approved", approvedBy("mia"), approval);
  refused(
    "community/link-approval",
    "an approval for another joiner",
    approvedBy("adam", { signatureKey: summer.publicKey }),
    approval,
  );
  refused(
    "community/link-approval",
    "an approval for another link",
    approvedBy("adam", { linkId: idOf("winter") }),
    approval,
  );
  refused(
    "community/link-approval",
    "an approval of a leaf that is blank",
    joins((world, joiner) => {
      const { publicKey: signatureKey } = joiner.identity.signatureKeys;
      const word = approveJoin(world.device("adam").group, { linkId: idOf("summer"), signatureKey });
      return ticket(joiner, { approval: { ...word, approver: 0xffff_ffff } });
    }),
    approval,
  );
});

describe("tickets", () => {
  row(
    "an Add of a leaf with a ticket",
    [],
    "community/ticket-by-link",
    commit((world) => {
      const joiner = world.outsider({ account: "nina" });
      const { keyPackage } = joiner.keyPackage({ extensions: ticket(joiner) });
      return { kind: "add", keyPackage };
    }),
    open(),
  );
  row(
    "a self-update that takes a ticket on",
    [],
    "community/ticket-kept",
    (world, by) => {
      const committer = world.device(by);
      return world.commit(committer, { leafChange: { extensions: ticket(committer) } });
    },
    open(),
  );
  row("a self-update with another extension", all, undefined, (world, by) =>
    world.commit(world.device(by), {
      leafChange: { extensions: [{ type: 1, data: Uint8Array.of(1, 7) }] },
    }),
  );

  const guestUpdates = (leafChange: { readonly extensions?: readonly Extension[] }): Act => {
    const guests = new WeakMap<World, Device>();
    return (world) => {
      const guest = guests.get(world) ?? enter(world, "guest");
      guests.set(world, guest);
      return world.commit(guest, { leafChange });
    };
  };
  allowed("a self-update of a guest, which keeps its ticket", guestUpdates({}), open());
  refused(
    "community/ticket-kept",
    "a self-update that drops the ticket",
    guestUpdates({ extensions: [] }),
    open(),
  );

  const guestComesBack = (extensions: readonly Extension[] | undefined): Act => {
    const leaves = new WeakMap<World, Device>();
    return (world) => {
      const guest = leaves.get(world) ?? enter(world, "guest");
      leaves.set(world, guest);
      const removes = world.follower.tree.leafBySignatureKey(guest.identity.signatureKeys.publicKey)!;
      return world.join(guest, extensions, { removes });
    };
  };
  allowed(
    "a resync of a guest, which keeps its ticket without being told to",
    guestComesBack(undefined),
    open(),
  );
  refused("community/ticket-kept", "a resync that drops the ticket", guestComesBack([]), open());
});

describe("what members and services refuse to begin with", () => {
  const attempts = (extensions: readonly Extension[]) => {
    // A founder who knows no policy.
    const founder = new Device(crypto, { account: "alice" });
    founder.found("a community", contextWith({ owners: ["alice"] }), extensions);
    const world = new World();
    const joiner = world.outsider({ account: "nina" });
    const keyPackage = joiner.keyPackage();
    const add = { kind: "add", keyPackage: keyPackage.keyPackage } as const;
    const { welcome, groupInfo } = founder.commit({ proposals: [add], groupInfo: { ratchetTree: true } });
    const external = {
      groupInfo,
      identity: world.outsider({ account: "nora" }).identity,
      leaf: communityLeaf,
    };
    const config = world.config();
    return [
      outcome(() => joinGroup(crypto, { welcome: welcome!, keyPackage }, config)),
      outcome(() => PublicGroup.follow(crypto, { groupInfo }, config.policy)),
      outcome(() => joinGroupExternally(crypto, external, config)),
    ];
  };
  const proper = communityExtensions(contextWith({ owners: ["alice"] }));

  test("community/extensions: a group with other extensions than a community's", () => {
    const code = "community/extensions";
    const externalSenders = { type: 5, data: Uint8Array.of(0) };
    const lax = { type: 3, data: Uint8Array.of(2, 0xf0, 0xa1, 0, 0) };
    expect(attempts([...proper, externalSenders])).toEqual([code, code, code]);
    expect(attempts([lax, proper[1]!])).toEqual([code, code, code]);
    expect(attempts([proper[0]!])).toEqual([code, code, code]);
    expect(attempts(proper)).toEqual(["accepted", "accepted", "community/ticket"]);
  });

  test("a group whose context does not decode", () => {
    const broken = { type: proper[1]!.type, data: proper[1]!.data.subarray(1) };
    const code = "community/context-malformed";
    expect(attempts([proper[0]!, broken])).toEqual([code, code, code]);
  });

  test("community/other-proposals: a type that all leaves support and no rule allows", () => {
    const type = 0xf0b0;
    const capabilities = { ...communityLeaf.capabilities!, proposals: [0x000a, type] };
    const config = new World().config();
    const [alice, bob] = ["alice", "bob"].map((account) => new Device(crypto, { account }, config)) as [
      Device,
      Device,
    ];
    alice.found("a community", contextWith({ owners: ["alice"] }), undefined, { capabilities });
    const keyPackage = bob.keyPackage({ capabilities });
    const add = { kind: "add", keyPackage: keyPackage.keyPackage } as const;
    const { welcome } = alice.commit({ proposals: [add], groupInfo: { ratchetTree: true } });
    bob.join(welcome!, keyPackage);
    const request = { groupInfo: alice.group.groupInfo(), ratchetTree: alice.group.ratchetTree() };
    const follower = PublicGroup.follow(crypto, request, config.policy);
    const act = () => {
      const { message } = alice.group.createCommit({
        proposals: [{ kind: "unknown", type, content: new Uint8Array(0) }],
      });
      alice.group.discardPending();
      return message;
    };
    const message = without(["community/other-proposals"], act);
    const judges = () => [
      outcome(() => bob.group.receive(message)),
      outcome(() => follower.receive(message)),
    ];
    const code = "community/other-proposals";
    expect([outcome(act), ...judges()]).toEqual([code, code, code]);
    expect(without([code], judges)).toEqual(["accepted", "accepted"]);
  });
});
