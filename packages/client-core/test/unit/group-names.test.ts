import { type GroupId, groupId } from "@murmuration/base";
import type { ServiceBody } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { content, encodeContent } from "../../src/core/content.ts";
import { openSqlcipher, type Storage, systemEnvironment, type Transport } from "../../src/index.ts";
import { GroupNames } from "../../src/shell/communities/group-names.ts";
import type { GroupBody } from "../../src/shell/connection.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const id = (fill: number): GroupId => groupId(new Uint8Array(16).fill(fill));
const [conversation, group, plain] = [id(1), id(2), id(3)] as [GroupId, GroupId, GroupId];
const active = { state: "active", cursor: 0, slot: 0, updatedAtMs: 0 } as const;

let storage: Storage;
let context: Context;
let names: GroupNames;
let statements: number;
let said: GroupBody[];

beforeEach(() => {
  storage = openSqlcipher({ path: ":memory:", key: new Uint8Array(32) });
  prepareSchema(storage);
  const counting = new Proxy(storage, {
    get(target, name: keyof Storage) {
      const member = target[name] as (...given: unknown[]) => unknown;
      return (...given: unknown[]) => {
        if (name === "get" || name === "all" || name === "run") statements++;
        return member.apply(target, given);
      };
    },
  });
  context = new Context(counting, {} as Transport, systemEnvironment, defaultSettings);
  said = [];
  names = new GroupNames(context, {
    group: (body) => {
      said.push(body);
      return Promise.resolve({ kind: "groupDone" } as ServiceBody);
    },
    tellGroup: (body) => void said.push(body),
  });
  context.transaction(() => {
    context.mls.putGroup(conversation, { ...active, wireId: group });
    context.mls.putGroup(plain, active);
  });
});
afterEach(() => storage.close());

describe("a conversation whose MLS group has another id", () => {
  test("is found by either, and any other one is its own group", () => {
    expect(names.wire(conversation)).toEqual(group);
    expect(names.conversation(group)).toEqual(conversation);
    expect(names.wire(plain)).toEqual(plain);
    expect(names.conversation(plain)).toEqual(plain);
  });

  test("is found without a statement", () => {
    names.wire(conversation);
    statements = 0;
    for (let n = 0; n < 100; n++) names.conversation(names.wire(conversation));
    names.wire(plain);
    expect(statements).toBe(0);
  });

  test("is known by the group's id outside, and by its own inside", async () => {
    const body = { kind: "groupTurnRelease", turn: 1 } as const;
    await names.ask({ ...body, groupId: conversation });
    names.tell({ ...body, groupId: plain });
    expect(said.map((one) => one.groupId)).toEqual([group, plain]);
    const turn = { kind: "groupTurn", groupId: group } as unknown as ServiceBody;
    expect(names.incoming(turn)).toMatchObject({ groupId: conversation });
  });

  test("has what it says addressed to the group, also what was written down for its record", () => {
    const messageId = context.newMessageId();
    context.transaction(() => context.meta.setText("name", "Alice"));
    const said = encodeContent({
      messageId,
      group: { groupId: conversation, revision: 7 },
      text: { text: "hello", attachments: [] },
    });
    const addressed = content.decode(names.addressed(conversation, said));
    expect(addressed.group).toMatchObject({ groupId: group, revision: 0, name: "Alice" });
    expect(addressed.text?.text).toBe("hello");
    expect(addressed.messageId).toEqual(messageId);
    expect(names.addressed(plain, said)).toBe(said);
  });

  test("keeps the id when the group begins anew, and goes back to its own when it is forgotten", () => {
    context.transaction(() => context.mls.putGroup(conversation, { ...active, state: "stuck" }));
    expect(names.wire(conversation)).toEqual(group);
    context.transaction(() => context.mls.delete(conversation));
    expect(names.wire(conversation)).toEqual(conversation);
    expect(names.conversation(group)).toEqual(group);
  });

  test("is not one that an undone transaction has made", () => {
    const undone = () =>
      context.transaction(() => {
        context.mls.expectGroup(id(4), id(5));
        expect(names.conversation(id(5))).toEqual(id(4));
        throw new Error("undone");
      });
    expect(undone).toThrow("undone");
    expect(names.conversation(id(5))).toEqual(id(5));
  });
});

describe("a group that is expected", () => {
  const welcome = { groupId: id(6), welcome: new Uint8Array(1), treeHash: new Uint8Array(32), sequence: 1 };

  test("takes the place of the one before; a Welcome that came early stays", () => {
    context.transaction(() => {
      context.mls.addWelcome(welcome, 0);
      context.mls.putEpoch(conversation, 5, new Uint8Array(32));
      context.mls.expectGroup(conversation, id(6));
    });
    expect(names.wire(conversation)).toEqual(id(6));
    expect(names.conversation(group)).toEqual(group);
    expect(context.mls.group(conversation)?.state).toBe("waiting");
    expect(context.mls.newestEpoch(conversation)).toBeUndefined();
    expect(context.mls.welcomes()).toHaveLength(1);
    context.transaction(() => context.mls.delete(conversation));
    expect(context.mls.welcomes()).toEqual([]);
  });

  test("is nobody else's", () => {
    const expecting = (own: GroupId, wire: GroupId) => () =>
      context.transaction(() => context.mls.expectGroup(own, wire));
    expect(expecting(id(4), group)).toThrow("group/name-taken");
    expect(expecting(id(4), plain)).toThrow("group/name-taken");
    expect(expecting(conversation, group)).not.toThrow();
  });
});
