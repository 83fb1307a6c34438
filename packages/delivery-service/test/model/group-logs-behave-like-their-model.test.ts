import { type Bytes, compareBytes, fromUtf8, utf8 } from "@murmuration/base";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MemoryMlsGroupStore } from "../../src/adapters/memory-mls-groups.ts";
import type { MlsGroupStore } from "../../src/ports/mls-groups.ts";
import { engines } from "../support/engines.ts";
import { accountOf, bytesOf, GroupLogModel } from "../support/group-log-model.ts";
import { DAY, wholeLog } from "../support/mls-groups.ts";
import { random } from "../support/random.ts";

const seed = Number(process.env["SEED"] ?? Date.now() % 2 ** 31);

type Command = fc.AsyncCommand<GroupLogModel, MlsGroupStore>;

/** Runs one step on model and store, and then holds everything that can be asked of the store to the model. */
function command(name: string, step: (model: GroupLogModel, store: MlsGroupStore) => Promise<void>): Command {
  return {
    check: () => true,
    async run(model, store) {
      await step(model, store);
      await agree(model, store);
    },
    toString: () => name,
  };
}

/** All questions at once: on PostgreSQL each is a round trip. */
async function agree(model: GroupLogModel, store: MlsGroupStore): Promise<void> {
  const { groupId, present } = model;
  if (!model.created) return expect(await store.load(groupId)).toBeUndefined();
  const banned = [...model.bans.values()].filter((ban) => ban.removedAt === undefined).map((ban) => ban.key);
  const out = [...model.bans.values()].filter((ban) => ban.listedAt === undefined);
  const accounts = new Map(out.map(({ account }) => [String(account), account]));
  await Promise.all([
    expect(store.load(groupId)).resolves.toEqual({
      groupId,
      epoch: present.number,
      lastSequence: model.last,
      firstSequence: model.first,
      groupInfo: present.groupInfo,
      treeHash: present.treeHash,
      banList: present.banList,
      lastRemovalEpoch: present.lastRemoval,
      lastCommitSequence: present.commit,
      lastUsedDay: model.lastUsedDay,
    }),
    expect(wholeLog(store, groupId)).resolves.toEqual(model.kept()),
    ...model.keptEpochs().map(async (epoch) => {
      const tree = (await store.loadTree(groupId, epoch.number))!;
      expect(tree.treeHash).toEqual(epoch.treeHash);
      expect([...fromUtf8(tree.snapshot).split(";"), ...tree.deltas.map(String)]).toEqual(epoch.tree);
      expect(await store.findTree(epoch.treeHash)).toEqual({ groupId, epoch: epoch.number });
    }),
    expect(store.loadTree(groupId, present.number + 1)).resolves.toBeUndefined(),
    ...Array.from({ length: present.number + 1 }, (_, epoch) =>
      expect(store.commitOf(groupId, epoch)).resolves.toEqual(model.commitOf(epoch)),
    ),
    ...[0, 1, 2, 3].map((n) => {
      const key = bytesOf("leaf", n);
      const removedAt = model.former.filter((leaf) => sameBytes(leaf.key, key)).at(-1)?.removedAt;
      const banned = removedAt !== undefined && model.bans.get(String(key))?.removedAt === removedAt;
      const expected = removedAt && { removedAt, ...(banned && { banned: true }) };
      return expect(store.formerLeaf(groupId, key)).resolves.toEqual(expected);
    }),
    expect(store.bannedKeys(groupId)).resolves.toEqual(banned.sort(compareBytes)),
    expect(store.bannedAccounts(groupId)).resolves.toEqual([...accounts.values()].sort(compareBytes)),
    expect(store.pendingProposals(groupId)).resolves.toEqual(model.pending),
    expect(store.outbox(0, 1_000)).resolves.toMatchObject(model.outbox),
  ]);
}

const sameBytes = (a: Bytes, b: Bytes) => compareBytes(a, b) === 0;

const shape = fc.record({
  offset: fc.constantFrom(0, 0, 0, 0, -1, 1),
  proposals: fc.nat(2),
  welcomes: fc.nat(2),
  removes: fc.constantFrom(0, 0, 0, 1, 2),
  bans: fc.boolean(),
});
// Few enough that commits and messages are repeated, many enough that new ones do not run out.
const commitNumber = fc.nat(40);
const offset = fc.integer({ min: -3, max: 1 });

const create = command("create", async (model, store) => {
  const { groupInfo, treeHash, tree } = model.epochs[0]!;
  const made = { groupId: model.groupId, epoch: 0, groupInfo, treeHash, tree: utf8(tree[0]!), day: DAY };
  expect(await store.create(made)).toBe(model.created ? "exists" : "created");
  model.created = true;
});

const commands: fc.Arbitrary<Command>[] = [
  fc.constant(create),
  fc.tuple(fc.nat(20), offset, fc.nat(3)).map(([submit, behind, epochsBehind]) =>
    command(`message ${submit} of epoch ${behind}, up to ${epochsBehind} behind`, async (model, store) => {
      const append = model.makeMessage(submit, Math.max(0, model.present.number + behind), epochsBehind);
      expect(await store.appendMessage(append)).toEqual(model.message(append));
    }),
  ),
  ...[0, 1].map(() =>
    fc.tuple(commitNumber, shape).map(([n, given]) =>
      command(`commit ${n} ${JSON.stringify(given)}`, async (model, store) => {
        const append = model.makeCommit(n, given);
        expect(await store.appendCommit(append)).toEqual(model.commit(append));
      }),
    ),
  ),
  fc.tuple(fc.uniqueArray(commitNumber, { minLength: 2, maxLength: 4 }), shape).map(([numbers, given]) =>
    command(`race of ${numbers} ${JSON.stringify(given)}`, async (model, store) => {
      const appends = numbers.map((n) => model.makeCommit(n, given));
      const outcomes = await Promise.all(appends.map((append) => store.appendCommit(append)));
      expect(outcomes).toEqual(appends.map((append) => model.commit(append)));
    }),
  ),
  fc.constantFrom(0, 0, 0, 1).map((back) =>
    command(`void the commit ${back} before the newest`, async (model, store) => {
      const sequence = model.epochs.at(-1 - back)?.commit ?? 0;
      const proof = bytesOf("refusals of", sequence);
      const request = { groupId: model.groupId, sequence, proof, acceptedAtMs: model.now };
      expect(await store.voidCommit(request)).toEqual(model.void(sequence, proof));
    }),
  ),
  fc.tuple(fc.integer({ min: -2, max: 12 }), fc.constantFrom(1, 3, 1_000)).map(([age, limit]) =>
    command(`expire what is older than ${age}, at most ${limit}`, async (model, store) => {
      expect(await store.expire(model.now - age, limit)).toBe(model.expire(model.now - age, limit));
    }),
  ),
  fc
    .tuple(fc.nat(30), fc.nat(30), fc.integer({ min: 1, max: 5 }), fc.nat(60))
    .map(([after, through, maxEntries, maxBytes]) =>
      command(
        `read ${after} to ${through}, ${maxEntries} entries, ${maxBytes} bytes`,
        async (model, store) => {
          const page = await store.read(model.groupId, after, through, { maxEntries, maxBytes });
          const wanted = model.kept().filter(({ sequence }) => sequence > after && sequence <= through);
          expect(page).toEqual(wanted.slice(0, page.length));
          const size = (count: number) =>
            wanted
              .slice(0, count)
              .reduce((sum, { message, banList }) => sum + message.length + (banList?.length ?? 0), 0);
          const fits = (count: number) => count <= maxEntries && (count <= 1 || size(count) <= maxBytes);
          expect(fits(page.length)).toBe(true);
          expect(page.length === wanted.length || !fits(page.length + 1)).toBe(true);
        },
      ),
    ),
  fc.tuple(fc.nat(5), fc.constantFrom(0, 0, 0, -1, 1), fc.constantFrom(1, 3)).map(([n, behind, max]) =>
    command(`propose ${n} in epoch ${behind}, at most ${max}`, async (model, store) => {
      const [epoch, proposal] = [model.present.number + behind, bytesOf("proposal", n)];
      const answer = await store.addProposal(model.groupId, epoch, proposal, max);
      expect(answer).toBe(model.propose(epoch, proposal, max));
    }),
  ),
  fc.tuple(fc.nat(6), fc.nat(3)).map(([order, leaf]) =>
    command(`order ${order} bans leaf ${leaf}`, async (model, store) => {
      const account = accountOf(leaf % 2);
      await store.ban(model.groupId, bytesOf("order", order), account, [bytesOf("leaf", leaf)]);
      model.ban(order, account, bytesOf("leaf", leaf));
    }),
  ),
  fc.nat(3).map((count) =>
    command(`${count} Welcomes reach their mailboxes`, async (model, store) => {
      const out = await store.outbox(0, count);
      await store.removeFromOutbox(out.map((welcome) => welcome.id));
      expect(out).toMatchObject(model.outbox.splice(0, count));
    }),
  ),
  fc.nat(4).map((back) =>
    command(`snapshot of the tree ${back} epochs back`, async (model, store) => {
      const epoch = model.epochs.at(-1 - back);
      if (epoch === undefined) return;
      const tree = utf8(epoch.tree.join(";"));
      await store.saveSnapshot(model.groupId, epoch.number, epoch.treeHash, tree);
    }),
  ),
  fc.integer({ min: -2, max: 6 }).map((step) =>
    command(`the clock goes on by ${step}`, async (model) => {
      model.now += step;
    }),
  ),
];

/** What a store could get wrong, one fault each. */
const faults: Readonly<Record<string, (store: MlsGroupStore) => MlsGroupStore>> = {
  "appends a commit whose epoch is over": (store) =>
    changed(store, {
      appendCommit: async (append) => {
        const row = await store.load(append.groupId);
        return store.appendCommit({ ...append, fromEpoch: Math.max(append.fromEpoch, row?.epoch ?? 0) });
      },
    }),
  "does not know a commit again": (store) =>
    changed(store, {
      appendCommit: (append) => store.appendCommit({ ...append, commitHash: random(32) }),
    }),
  "does not know a message again": (store) =>
    changed(store, {
      appendMessage: (append) => store.appendMessage({ ...append, submitHash: random(32) }),
    }),
  "takes a message that is one epoch too old": (store) =>
    changed(store, {
      appendMessage: (append) => store.appendMessage({ ...append, epochsBehind: append.epochsBehind + 1 }),
    }),
  "loses a Welcome": (store) =>
    changed(store, {
      appendCommit: (append) => store.appendCommit({ ...append, welcomes: append.welcomes.slice(1) }),
    }),
  "voids whatever is the newest": (store) =>
    changed(store, {
      voidCommit: async (request) => {
        const row = await store.load(request.groupId);
        return store.voidCommit({ ...request, sequence: row?.lastCommitSequence ?? 0 });
      },
    }),
  "expires an entry too early": (store) =>
    changed(store, { expire: (beforeMs, limit) => store.expire(beforeMs + 1, limit) }),
  "gives a page without its last entry": (store) =>
    changed(store, {
      read: (groupId, after, through, limits) => store.read(groupId, after, through - 1, limits),
    }),
};

function changed(store: MlsGroupStore, change: Partial<MlsGroupStore>): MlsGroupStore {
  return new Proxy(store, {
    get: (target, name: keyof MlsGroupStore) => change[name] ?? target[name].bind(target),
  });
}

const runs = fc.commands(commands, { maxCommands: 80, size: "max" });

async function runOn(store: MlsGroupStore, run: Iterable<Command>): Promise<GroupLogModel> {
  const model = new GroupLogModel();
  await create.run(model, store);
  await fc.asyncModelRun(() => ({ model, real: store }), run);
  return model;
}

describe(`group logs behave like their model, seed ${seed} (replay with SEED=${seed})`, () => {
  it.each(engines)(
    "after any operations $name answers as the model does",
    { timeout: 480_000 },
    async (engine) => {
      // What the service answers comes from one disk access after the other there.
      const numRuns = engine.name.startsWith("PostgreSQL") && process.env["SLOW"] !== "1" ? 20 : 60;
      const seen = { commits: 0, voids: 0, expired: 0, epochs: 0 };
      await fc.assert(
        fc.asyncProperty(runs, async (run) => {
          const opened = await engine.open();
          try {
            const model = await runOn(opened.stores.mlsGroups, run);
            seen.commits += model.log.filter(({ entry }) => entry.kind === "commit").length;
            seen.voids += model.log.filter(({ entry }) => entry.kind === "void").length;
            seen.expired += model.first - 1;
            seen.epochs = Math.max(seen.epochs, model.present.number);
          } finally {
            await opened.dispose();
          }
        }),
        { seed, numRuns },
      );
      // The run proves nothing unless all of it happened.
      console.log(JSON.stringify(seen));
      expect(seen.commits).toBeGreaterThan(2.5 * numRuns);
      expect(seen.voids).toBeGreaterThan(numRuns / 2);
      expect(seen.expired).toBeGreaterThan(numRuns / 3);
      expect(seen.epochs).toBeGreaterThan(5);
    },
  );

  it.each(Object.entries(faults))("a store that %s is found out", async (_, faulty) => {
    const details = await fc.check(
      fc.asyncProperty(runs, async (run) => {
        await runOn(faulty(new MemoryMlsGroupStore()), run);
      }),
      { seed, numRuns: 120, endOnFailure: true },
    );
    expect(details.failed).toBe(true);
  });
});
