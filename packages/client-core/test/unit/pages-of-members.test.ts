import { randomBytes } from "node:crypto";
import { accountId, formatId, type GroupId, groupId } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { ClientConversation } from "../../src/client/conversation.ts";
import type { ClientParts } from "../../src/client/parts.ts";
import { openSqlcipher, type Storage, systemEnvironment, type Transport } from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const bytes = (length: number) => new Uint8Array(randomBytes(length));
let storage: Storage;
let context: Context;
let id: GroupId;
let group: ClientConversation;

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: bytes(32) });
  prepareSchema(storage);
  context = new Context(storage, {} as Transport, systemEnvironment, defaultSettings);
  id = groupId(bytes(16));
  const row = { id, kind: "group", state: "active", protocol: "mls", title: "" } as const;
  context.conversations.insert({ ...row, expireAfterSeconds: 0 }, 0);
  group = new ClientConversation({ context } as ClientParts, context.conversations.get(id)!);
});
afterEach(() => storage.close());

/** A member who calls itself so. Where its account id stands among those of others is chance. */
function comes(name: string, givenName = ""): string {
  const account = accountId(bytes(16));
  context.contacts.ensure(account);
  context.contacts.setName(account, name);
  context.contacts.setGivenName(account, givenName);
  const member = { account, role: "member", invited: false, identityKey: bytes(33) } as const;
  context.conversations.putMember(id, member);
  return formatId(account);
}

/** Ids in the order of their bytes, which is not the order of what they are written as. */
const inOrder = (ids: readonly string[]): readonly string[] =>
  ids.toSorted((a, b) => Buffer.compare(Buffer.from(a, "base64url"), Buffer.from(b, "base64url")));

/** Everything that is asked for page by page, as an application asks: behind the last one that it has, until nobody comes. */
function pagesOf(asked: { readonly limit?: number; readonly search?: string } = {}): readonly string[][] {
  const pages: string[][] = [];
  for (let after: string | undefined; ; ) {
    const page = group.members({ ...asked, ...(after === undefined ? {} : { after }) });
    if (page.length === 0) return pages;
    if (pages.length > 1_000) throw new Error("the pages have no end");
    pages.push(page.map(({ accountId: account }) => account));
    after = page.at(-1)!.accountId;
  }
}

const named = (search: string): readonly string[] =>
  group
    .members({ search })
    .map(({ name }) => name)
    .toSorted();

describe("the members of a group, page by page", () => {
  test("are everybody once, in the order of their account ids, however many are asked for", () => {
    const everybody = inOrder(Array.from({ length: 30 }, (_, n) => comes(`Starling ${n}`)));
    for (const limit of [1, 7, 15, 30, 31]) {
      const pages = pagesOf({ limit });
      expect(pages.flat()).toEqual(everybody);
      const sizes = pages.map((page) => page.length);
      expect(sizes.slice(0, -1).every((size) => size === limit)).toBe(true);
      expect(pages).toHaveLength(Math.ceil(30 / limit));
    }
  });

  test("are 256 where nobody says how many", () => {
    const everybody = inOrder(Array.from({ length: 300 }, (_, n) => comes(`Starling ${n}`)));
    const pages = pagesOf();
    expect(pages.map((page) => page.length)).toEqual([256, 44]);
    expect(pages.flat()).toEqual(everybody);
  });

  test("go on behind somebody who has left meanwhile, without whoever has left", () => {
    const everybody = inOrder(Array.from({ length: 6 }, (_, n) => comes(`Starling ${n}`)));
    const first = group.members({ limit: 3 }).map(({ accountId: account }) => account);
    expect(first).toEqual(everybody.slice(0, 3));
    for (const gone of [everybody[2]!, everybody[4]!])
      context.conversations.removeMember(id, accountId(new Uint8Array(Buffer.from(gone, "base64url"))), 1);
    const rest = group.members({ after: first.at(-1)!, limit: 3 });
    expect(rest.map(({ accountId: account }) => account)).toEqual([everybody[3], everybody[5]]);
  });
});

describe("a search among the members of a group", () => {
  test("finds the text anywhere in a name, whatever its case", () => {
    for (const name of ["Robin", "Robert", "Brobeck", "Wren"]) comes(name);
    expect(named("Rob")).toEqual(["Brobeck", "Robert", "Robin"]);
    expect(named("ROBIN")).toEqual(["Robin"]);
    expect(named("ck")).toEqual(["Brobeck"]);
    expect(named("robins")).toEqual([]);
  });

  test("finds by what the user calls somebody, and by what they call themselves", () => {
    const robin = comes("Robin", "Aunt Rose");
    comes("Wren");
    for (const search of ["rose", "robin"])
      expect(group.members({ search })).toMatchObject([{ accountId: robin, name: "Aunt Rose" }]);
  });

  test("takes every character for itself: none stands for others", () => {
    for (const name of ["100% Robin", "100 Robin", "R_n", "Ron", "~Wren", "Wren", "a~%_b", "[Rr]*?", "\\"])
      comes(name);
    expect(named("%")).toEqual(["100% Robin", "a~%_b"]);
    expect(named("0%")).toEqual(["100% Robin"]);
    expect(named("R_n")).toEqual(["R_n"]);
    expect(named("~")).toEqual(["a~%_b", "~Wren"]);
    expect(named("~%_")).toEqual(["a~%_b"]);
    expect(named("*")).toEqual(["[Rr]*?"]);
    expect(named("\\")).toEqual(["\\"]);
    expect(named("%%")).toEqual([]);
  });

  test("page by page finds each once, in the order of the account ids, and nobody else between them", () => {
    const found: string[] = [];
    for (let n = 0; n < 20; n++) {
      found.push(comes(`Robin ${n}`));
      comes(`Wren ${n}`);
    }
    for (const limit of [1, 6, 20, 21]) {
      const pages = pagesOf({ search: "robin", limit });
      expect(pages.flat()).toEqual(inOrder(found));
      expect(pages).toHaveLength(Math.ceil(20 / limit));
    }
  });
});
