import { accountId, groupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { Encryptor } from "../../src/shell/encryptor.ts";
import type { OutboxRow } from "../../src/store/outbox.ts";

const BOB = accountId(new Uint8Array(16).fill(2));
const GROUP = groupId(new Uint8Array(16).fill(9));

/** Encrypts one row for a group with one other member; `duringIt` happens before the ciphertexts are persisted. */
async function encryptWith(duringIt: (group: { protocol: string }) => void) {
  const group = { protocol: "pairwise" };
  const row = { state: "new", parts: 0, writeSets: 0 };
  const context = {
    now: () => 0,
    isOwn: () => false,
    transaction: (body: () => unknown) => body(),
    environment: { random: (length: number) => new Uint8Array(length) },
    conversations: { memberAccounts: () => [BOB], get: () => group, group: () => ({ fence: undefined }) },
    contacts: { withoutAccessKey: () => [] },
    pairwiseRows: { applyWriteSet: () => row.writeSets++ },
    engine: {
      certificateExpiresAtMs: () => 0,
      devicesOfEach: () => [[{ accountId: BOB, deviceId: 1 }]],
      encrypt: async (_: unknown, persist: (staged: unknown) => void) => {
        duringIt(group);
        const ciphertexts = [
          {
            address: { accountId: BOB, deviceId: 1 },
            registrationId: 1,
            type: 1,
            ciphertext: new Uint8Array(1),
          },
        ];
        persist({ writeSet: {}, output: { ciphertexts, reference: undefined } });
        return { kind: "persisted" };
      },
    },
    outbox: {
      state: () => row.state,
      countParts: () => row.parts,
      reference: () => undefined,
      get: () => ({ accounts: [] }),
      addPart: () => row.parts++,
      setPlan: () => undefined,
      setState: (_: number, state: string) => {
        row.state = state;
      },
    },
  };
  const directory = { ensureAccounts: async () => new Map(), ensureCertificate: async () => undefined };
  const encryptor = new Encryptor(context as never, directory as never, {} as never);
  const outgoing = {
    id: 1,
    target: { kind: "group", group: GROUP },
    content: new Uint8Array(1),
    exclude: [],
  };
  const progress = await encryptor.encrypt(outgoing as unknown as OutboxRow);
  return { row, progress };
}

test("a row of a pairwise group is ready when its ciphertexts are persisted", async () => {
  const { row } = await encryptWith(() => undefined);
  expect(row).toEqual({ state: "ready", parts: 1, writeSets: 1 });
});

test("a row that begins anew over MLS while it is encrypted stays new, and is not taken for sent", async () => {
  const { row, progress } = await encryptWith((group) => {
    group.protocol = "mls";
  });
  // The session keys are used up all the same.
  expect(row).toEqual({ state: "new", parts: 0, writeSets: 1 });
  expect(progress).toEqual({ kind: "ready", splitLanes: [] });
});
