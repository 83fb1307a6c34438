import { randomBytes } from "node:crypto";
import { afterEach, beforeEach, expect, test } from "vitest";
import {
  type Environment,
  openSqlcipher,
  type Storage,
  systemEnvironment,
  type Transport,
} from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { prepareSchema } from "../../src/store/schema.ts";

let storage: Storage;
let erased: number;
/** Set: nothing can be erased. */
let dies: boolean;
let slept: { readonly ms: number; readonly wake: () => void }[];

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(randomBytes(32)) });
  prepareSchema(storage);
  [erased, dies, slept] = [0, false, []];
  storage.eraseDeleted = () => {
    if (dies) throw new Error("the disk is full");
    erased++;
  };
});
afterEach(() => storage.close());

const environment: Environment = {
  ...systemEnvironment,
  sleep: (ms) => new Promise((wake) => slept.push({ ms, wake })),
};
const open = (): Context => new Context(storage, {} as Transport, environment, defaultSettings);
const nextTurn = () => new Promise((resolve) => setImmediate(resolve));

test("what was deleted is erased right after its transaction, once, and never before it is over", () => {
  const context = open();
  context.transaction(() => {
    context.eraseAfterwards();
    context.eraseAfterwards();
    expect(erased).toBe(0);
  });
  expect(erased).toBe(1);
  context.transaction(() => context.meta.setText("name", "Alice"));
  expect(erased).toBe(1);
  open().erasure.takeUp();
  expect(erased).toBe(1);
});

test("what a process that ended, or a disk that failed, has left is erased when the client opens, or a while later", async () => {
  const context = open();
  dies = true;
  context.transaction(() => context.eraseAfterwards());
  expect(context.meta.number("erase-due")).toBe(1);
  // Nobody is kept from what was written.
  const next = open();
  next.erasure.takeUp();
  expect(next.meta.number("erase-due")).toBe(1);
  dies = false;
  expect(slept).toHaveLength(2);
  slept[1]!.wake();
  await nextTurn();
  expect(erased).toBe(1);
  open().erasure.takeUp();
  expect(erased).toBe(1);
});

test("what all members of a group delete at once each of them erases when it is quiet again, or when it opens", async () => {
  const context = open();
  context.quieten(8_000);
  context.transaction(() => context.eraseWhenQuiet());
  context.transaction(() => context.eraseWhenQuiet());
  expect(erased).toBe(0);
  expect(slept).toHaveLength(1);
  expect(slept[0]!.ms).toBeGreaterThan(7_000);
  expect(slept[0]!.ms).toBeLessThanOrEqual(38_000);
  slept[0]!.wake();
  await nextTurn();
  expect(erased).toBe(1);

  context.transaction(() => context.eraseWhenQuiet());
  expect(slept).toHaveLength(2);
  open().erasure.takeUp();
  expect(erased).toBe(2);
  slept[1]!.wake();
  await nextTurn();
  expect(erased).toBe(2);

  // Somebody who deletes a message waits for nothing, and leaves nothing to be erased later.
  context.transaction(() => {
    context.eraseWhenQuiet();
    context.eraseAfterwards();
  });
  expect(erased).toBe(3);
  expect(slept).toHaveLength(2);
});
