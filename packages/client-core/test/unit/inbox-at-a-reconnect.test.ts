import { accountId, type EnvelopeId, UnavailableError } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { openSqlcipher } from "../../src/index.ts";
import type { Context } from "../../src/shell/context.ts";
import type { Directory } from "../../src/shell/directory.ts";
import { Inbox } from "../../src/shell/inbox.ts";
import type { KeptMark } from "../../src/shell/kept-mark.ts";
import type { Receiver } from "../../src/shell/receiver.ts";
import { HeldStore } from "../../src/store/held.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const unmarked = { hear: () => undefined, write: () => undefined } as unknown as KeptMark;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const envelope = (id: number) => ({
  envelopeId: id as EnvelopeId,
  serverTimeMs: 1,
  sealed: { ciphertext: new Uint8Array([id]) },
});

/** An inbox whose engine takes until `decrypted` is called, and what became of its envelopes. */
function inboxWithSlowEngine() {
  const acknowledged: number[] = [];
  const taken: number[] = [];
  const decrypted: (() => void)[] = [];
  let cursor = 0;
  const context = {
    closing: new AbortController(),
    meta: {
      number: () => cursor,
      setNumber: (_: string, to: number) => {
        cursor = to;
      },
    },
    engine: {
      decrypt: async (
        { envelopes }: { envelopes: { ciphertext: Uint8Array }[] },
        persist: (staged: unknown) => void,
      ) => {
        await new Promise<void>((resolve) => decrypted.push(resolve));
        taken.push(...envelopes.map(({ ciphertext }) => ciphertext[0]!));
        persist({ writeSet: { changes: [] }, output: envelopes.map(() => ({ kind: "duplicate" })) });
      },
    },
    transaction: <T>(work: () => T) => work(),
    pairwiseRows: { applyWriteSet: () => undefined },
    notifier: { flush: () => undefined, tell: () => undefined },
    held: { of: () => [] },
    settings: { inboxLimit: 100 },
    failed: (error: unknown) => {
      throw error;
    },
  };
  const inbox = new Inbox(
    context as unknown as Context,
    unmarked,
    {} as Directory,
    { takePassing: () => [] } as unknown as Receiver,
    {
      acknowledge: (through) => void acknowledged.push(through),
      overflow: () => undefined,
      received: async () => undefined,
    },
  );
  const setCursor = (to: number) => context.meta.setNumber("cursor", to);
  return { inbox, acknowledged, taken, decrypted, setCursor };
}

describe("the inbox at a reconnect", () => {
  it("opens nothing of a new connection before it is released, though a batch of the old one is still at work", async () => {
    const { inbox, acknowledged, taken, decrypted, setCursor } = inboxWithSlowEngine();
    inbox.release();
    inbox.deliver({ envelopes: [envelope(40)] });
    await turn();
    // The service comes back with an older store, whose numbers begin again, and delivers at once.
    inbox.reset();
    inbox.deliver({ envelopes: [envelope(1), envelope(2)] });
    decrypted.shift()!();
    await inbox.idle();
    await turn();
    // Number 40 is not acknowledged to a service that may mean another envelope by it.
    expect({ taken, acknowledged }).toEqual({ taken: [40], acknowledged: [] });
    // Recovery sets the cursor back, then lets the inbox go on: neither message is taken for an old one.
    setCursor(0);
    inbox.release();
    await turn();
    decrypted.shift()!();
    await inbox.idle();
    expect({ taken, acknowledged }).toEqual({ taken: [40, 1, 2], acknowledged: [2] });
  });

  it("keeps a first message that is held while an older one is opened a second time for the new connection", async () => {
    using storage = disposable();
    const { inbox, opened, lists } = inboxWithHeldEnvelopes(storage.open);
    inbox.release();
    inbox.deliver({ envelopes: [envelope(1)] });
    await turn();
    // The delivery and the new connection both saw it held, and both ask for its sender's device list.
    const again = inbox.openHeld();
    await turn();
    lists.shift()!();
    await turn();
    // The delivery has its answer first, opens number 1 and goes on to number 2, of another stranger.
    inbox.deliver({ envelopes: [envelope(2)] });
    await turn();
    // Number 2 finds the service gone, and stays held; the new connection has its answer about number 1 after all.
    const [aboutFirst, aboutSecond] = lists.splice(0);
    aboutSecond!(new UnavailableError("service/not-answering"));
    await inbox.idle();
    aboutFirst!();
    await again;
    const later = inbox.openHeld();
    await turn();
    lists.shift()?.();
    await later;
    await inbox.idle();
    expect(opened).toEqual([1, 2]);
  });
});

function disposable() {
  const open = openSqlcipher({ path: ":memory:", key: new Uint8Array(32).fill(7) });
  prepareSchema(open);
  return { open, [Symbol.dispose]: () => open.close() };
}

/** An inbox over a real store of held envelopes; each sender is unknown until its device list was answered. */
function inboxWithHeldEnvelopes(storage: ReturnType<typeof openSqlcipher>) {
  const opened: number[] = [];
  const lists: ((error?: Error) => void)[] = [];
  const sender = (id: number) => ({ accountId: accountId(new Uint8Array(16).fill(id)), deviceId: 1 });
  let cursor = 0;
  const outcomeOf = (id: number, refreshed: readonly Uint8Array[]) => {
    if (opened.includes(id)) return { kind: "duplicate", sender: sender(id) };
    const known = refreshed.some((account) => account[0] === id);
    if (!known) return { kind: "device-list-needed", sender: sender(id) };
    return { kind: "message", sender: sender(id), body: new Uint8Array([id]), sentAtMs: 1 };
  };
  const context = {
    closing: new AbortController(),
    meta: {
      number: () => cursor,
      setNumber: (_: string, to: number) => {
        cursor = to;
      },
    },
    engine: {
      decrypt: async (
        request: { envelopes: { ciphertext: Uint8Array }[]; refreshedAccounts?: readonly Uint8Array[] },
        persist: (staged: unknown) => void,
      ) => {
        const output = request.envelopes.map(({ ciphertext }) =>
          outcomeOf(ciphertext[0]!, request.refreshedAccounts ?? []),
        );
        persist({ writeSet: { changes: [] }, output });
      },
    },
    transaction: <T>(work: () => T) => storage.transaction(work),
    pairwiseRows: { applyWriteSet: () => undefined },
    notifier: { flush: () => undefined, tell: () => undefined },
    held: new HeldStore(storage),
    now: () => 1,
    settings: { inboxLimit: 100 },
    failed: (error: unknown) => {
      throw error;
    },
  };
  const directory = {
    refreshDeviceList: () =>
      new Promise<undefined>((resolve, reject) =>
        lists.push((error) => (error === undefined ? resolve(undefined) : reject(error))),
      ),
  };
  const receiver = {
    takePassing: () => [],
    receive: ({ body }: { body: Uint8Array }) => void opened.push(body[0]!),
  };
  const inbox = new Inbox(
    context as unknown as Context,
    unmarked,
    directory as unknown as Directory,
    receiver as unknown as Receiver,
    { acknowledge: () => undefined, overflow: () => undefined, received: async () => undefined },
  );
  return { inbox, opened, lists };
}
