import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { keyFromPassphrase, openSqlcipher, systemEnvironment } from "../../src/index.ts";

const { random } = systemEnvironment;
const cheap = { memoryKib: 1024, passes: 1, lanes: 1 };
const secret = "Nobody but Bob may read that the eagle has landed";
let directory = "";
let path = "";

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "murmuration-storage-"));
  path = join(directory, "client.db");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** The forms in which a text could lie in a file. */
function forms(text: string): Buffer[] {
  const raw = Buffer.from(text);
  return [
    raw,
    Buffer.from(raw.toString("hex")),
    Buffer.from(raw.toString("base64").replace(/=+$/, "")),
    Buffer.from(text, "utf16le"),
  ];
}

function leaks(text: string): string[] {
  return readdirSync(directory).filter((name) => {
    const content = readFileSync(join(directory, name));
    return forms(text).some((form) => content.includes(form));
  });
}

function fill(key: Uint8Array<ArrayBuffer>): void {
  const storage = openSqlcipher({ path, key });
  storage.exec("CREATE TABLE note (text TEXT, bytes BLOB)");
  storage.transaction(() => {
    for (let i = 0; i < 200; i++)
      storage.run("INSERT INTO note VALUES (?, ?)", [secret, Buffer.from(secret)]);
  });
  // With the log still there: it must not show anything either.
  expect(leaks(secret)).toEqual([]);
  storage.close();
}

test("no plaintext and no SQLite header lie in the file or its log, and a planted leak would be found", async () => {
  fill(random(32));
  expect(leaks(secret)).toEqual([]);
  expect(readFileSync(path).subarray(0, 15).toString("latin1")).not.toBe("SQLite format 3");
  const { writeFileSync } = await import("node:fs");
  writeFileSync(join(directory, "planted"), `...${Buffer.from(secret).toString("hex")}...`);
  expect(leaks(secret)).toEqual(["planted"]);
});

test("a wrong key is refused, and so is a file that is no database", () => {
  const key = random(32);
  fill(key);
  expect(() => openSqlcipher({ path, key: random(32) })).toThrow("storage/wrong-key");
  const again = openSqlcipher({ path, key });
  expect(again.get("SELECT count(*) AS n FROM note")).toEqual({ n: 200 });
  again.close();
  expect(() => openSqlcipher({ path, key: random(31) })).toThrow("storage/bad-key-length");
});

test("after rekey only the new key opens the database", () => {
  const [before, after] = [random(32), random(32)];
  fill(before);
  const storage = openSqlcipher({ path, key: before });
  storage.rekey(after);
  storage.close();
  expect(() => openSqlcipher({ path, key: before })).toThrow("storage/wrong-key");
  const again = openSqlcipher({ path, key: after });
  expect(again.get("SELECT count(*) AS n FROM note")).toEqual({ n: 200 });
  again.close();
  expect(leaks(secret)).toEqual([]);
});

test("a passphrase gives the same key as long as the salt file lies beside the database", () => {
  const key = keyFromPassphrase(path, "correct horse", cheap);
  expect(keyFromPassphrase(path, "correct horse", { ...cheap, passes: 2 })).toEqual(key);
  expect(keyFromPassphrase(path, "wrong horse", cheap)).not.toEqual(key);
  fill(key);
  rmSync(`${path}.salt`);
  expect(() => keyFromPassphrase(path, "correct horse", cheap)).toThrow("storage/salt-file-missing");
  expect(() => keyFromPassphrase(path, "", cheap)).toThrow("storage/empty-passphrase");
});

test("a transaction that throws leaves nothing, and none runs inside another", () => {
  const storage = openSqlcipher({ path, key: random(32) });
  storage.exec("CREATE TABLE note (text TEXT)");
  expect(() =>
    storage.transaction(() => {
      storage.run("INSERT INTO note VALUES ('a')");
      throw new Error("stop");
    }),
  ).toThrow("stop");
  expect(storage.get("SELECT count(*) AS n FROM note")).toEqual({ n: 0 });
  expect(() => storage.transaction(() => storage.transaction(() => 1))).toThrow("storage/nested-transaction");
  expect(storage.inTransaction).toBe(false);
  storage.close();
});

test("a transaction waits for the disk unless it says that it may be forgotten, whatever came before it", () => {
  const storage = openSqlcipher({ path, key: random(32) });
  storage.exec("CREATE TABLE note (text TEXT)");
  /** 2: FULL, the log is on the disk when the transaction returns. 1: NORMAL, it is there with the next one. */
  const waits = () => storage.get("PRAGMA synchronous")!["synchronous"];
  const stop = () => {
    throw new Error("stop");
  };
  for (let round = 0; round < 2; round++) {
    expect(storage.transaction(waits)).toBe(2);
    expect(storage.transaction(waits, "with-the-next")).toBe(1);
    expect(waits()).toBe(2);
    expect(() => storage.transaction(stop, "with-the-next")).toThrow("stop");
  }
  storage.transaction(() => storage.run("INSERT INTO note VALUES ('a')"), "with-the-next");
  // A transaction within it is refused and leaves it what it was.
  storage.transaction(() => {
    expect(() => storage.transaction(waits)).toThrow("storage/nested-transaction");
    expect(waits()).toBe(1);
  }, "with-the-next");
  expect(storage.transaction(waits)).toBe(2);
  expect(storage.get("SELECT count(*) AS n FROM note")).toEqual({ n: 1 });
  storage.close();
});
