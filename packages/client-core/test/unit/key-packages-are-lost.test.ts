import type { Bytes } from "@murmuration/base";
import { decodeMlsMessage, keyPackageRef } from "@murmuration/mls-groups";
import { beforeEach, expect, test } from "vitest";
import { openSqlcipher } from "../../src/index.ts";
import { communityCrypto } from "../../src/shell/communities/identity.ts";
import { KeyPackages } from "../../src/shell/communities/key-packages.ts";
import type { Context } from "../../src/shell/context.ts";
import { KeptStorage } from "../../src/store/kept-storage.ts";
import { MetaStore } from "../../src/store/meta.ts";
import { MlsStore } from "../../src/store/mls.ts";
import { prepareSchema } from "../../src/store/schema.ts";

interface Upload {
  readonly keyPackages: readonly Bytes[];
  readonly lastResort?: Bytes;
  readonly replace: boolean;
}

const STOCK = 3;
let keyPackages: KeyPackages;
let mls: MlsStore;
/** What the service has, and what it was sent. */
let published: readonly Bytes[];
let uploads: Upload[];
/** Happens while the upload with this number is on its way. */
let during: (upload: number) => void;

beforeEach(() => {
  const storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(32) });
  prepareSchema(storage);
  const kept = new KeptStorage(storage);
  mls = new MlsStore(kept);
  const meta = new MetaStore(kept);
  const { privateKey, publicKey } = communityCrypto.generateSignatureKeyPair();
  meta.setBytes("mls-signature-public", publicKey);
  meta.setBytes("mls-signature-private", privateKey);
  meta.setBytes("mls-credential", new Uint8Array(8));
  [published, uploads, during] = [[], [], () => {}];
  const call = async (name: string, _: unknown, upload: Upload) => {
    if (name === "countKeyPackages")
      return { keyPackages: published.length, lastResort: published.length > 0 };
    published = upload.replace ? upload.keyPackages : [...published, ...upload.keyPackages];
    during(uploads.push(upload));
    return {};
  };
  keyPackages = new KeyPackages({
    meta,
    mls,
    api: { call },
    settings: { keyPackageStock: STOCK },
    environment: { random: (length: number) => crypto.getRandomValues(new Uint8Array(length)) },
    now: () => 1_000_000_000_000,
    transaction: (work: () => unknown) => storage.transaction(work),
  } as unknown as Context);
});

/** Whether this device has the private keys of everything that others may claim. */
function canOpenAll(): boolean {
  return published.every((bytes) => {
    const message = decodeMlsMessage(bytes);
    if (message.wireFormat !== "mls_key_package") return false;
    return mls.keyPackage(keyPackageRef(communityCrypto, message.keyPackage)) !== undefined;
  });
}

test("a stock is filled up once", async () => {
  await Promise.all([keyPackages.replenish(), keyPackages.replenish()]);
  expect(uploads).toHaveLength(1);
  expect(published).toHaveLength(STOCK);
  expect(canOpenAll()).toBe(true);
});

// The fault that this finds: what was published meanwhile stays at the service, and whoever claims it adds a device that
// cannot open the Welcome.
test("private keys that turn out to be lost while an upload is on its way make another one, which replaces it", async () => {
  during = (upload) => {
    if (upload === 1) keyPackages.noteLost();
  };
  await keyPackages.replenish();
  expect(uploads.map(({ replace }) => replace)).toEqual([false, true]);
  expect(published).toHaveLength(STOCK);
  expect(canOpenAll()).toBe(true);
});

test("a service that turns out to be set back while an upload is on its way is sent all of them anew", async () => {
  during = (upload) => {
    if (upload === 1) keyPackages.noteServiceLost();
  };
  await keyPackages.replenish();
  expect(uploads.map(({ replace }) => replace)).toEqual([false, true]);
  expect(published).toHaveLength(STOCK);
  expect(canOpenAll()).toBe(true);
});

// The fault that this finds: the upload is known at the service, which takes nothing of it and replaces nothing; and it counts
// as the replacement.
test("an upload whose answer was lost before the service was set back does not count as the replacement", async () => {
  during = () => {
    throw new Error("the answer is lost");
  };
  await expect(keyPackages.replenish()).rejects.toThrow("the answer is lost");
  during = () => {};
  keyPackages.noteServiceLost();
  await keyPackages.replenish();
  expect(uploads.map(({ replace }) => replace)).toEqual([false, false, true]);
  expect(published).toHaveLength(STOCK);
  expect(canOpenAll()).toBe(true);
});
