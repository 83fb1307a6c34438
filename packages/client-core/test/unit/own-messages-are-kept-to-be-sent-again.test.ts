import { randomBytes } from "node:crypto";
import { groupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { type Environment, openSqlcipher, systemEnvironment, type Transport } from "../../src/index.ts";
import { Context, defaultSettings } from "../../src/shell/context.ts";
import { lanes } from "../../src/shell/lanes.ts";
import { Maintenance } from "../../src/shell/maintenance.ts";
import { prepareSchema } from "../../src/store/schema.ts";

const DAY_MS = 86_400_000;
const random = (length: number) => new Uint8Array(randomBytes(length));

test("what was said to a community can be sent again for thirty days, should the service lose it", () => {
  const storage = openSqlcipher({ path: ":memory:", key: random(32) });
  prepareSchema(storage);
  let now = 1_800_000_000_000;
  const environment: Environment = {
    ...systemEnvironment,
    now: () => now,
    sleep: () => new Promise(() => {}),
  };
  const context = new Context(storage, {} as Transport, environment, defaultSettings);
  const group = groupId(random(16));
  const outboxId = context.transaction(() => {
    const id = context.outbox.append({
      lane: lanes.group(group),
      target: { kind: "group", group },
      messageId: context.newMessageId(),
      content: random(40),
      confirm: false,
      createdAtMs: now,
    });
    context.outbox.setState(id, "accepted", now);
    context.mls.past.putSent(group, { outboxId: id, hash: random(32) }, 7, now);
    return id;
  });
  const saidAt = now;
  /** What time brings runs once, so many days later. */
  const known = (days: number) => {
    now = saidAt + days * DAY_MS;
    new Maintenance(context, { tend: () => {} });
    return context.mls.past.sentBetween(group, 0, 100).map((row) => row.outboxId);
  };
  expect(known(8)).toEqual([outboxId]);
  expect(known(29)).toEqual([outboxId]);
  expect(context.outbox.get(outboxId)?.content).toHaveLength(40);
  known(31);
  // What belonged to it goes with the next time.
  expect(known(31)).toEqual([]);
  expect(context.outbox.get(outboxId)).toBeUndefined();
  storage.close();
});
