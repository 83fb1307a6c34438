import type { Storage } from "@murmuration/client-core";
import { expect, test } from "vitest";
import { introduce, textsOf, until, World } from "../../src/index.ts";

test("a removed member that pretends nothing happened reads nothing, writes nothing, and sends into the void", async () => {
  await using world = await World.start();
  let database: Storage | undefined;
  const [alice, bob] = [await world.join("Alice"), await world.join("Bob")];
  const mallory = await world.join("Mallory", {
    wrapStorage: (storage) => {
      database = storage;
      return storage;
    },
  });
  await introduce(alice, bob, mallory);
  const group = await alice.client.conversations.createGroup({
    title: "Birds",
    members: [bob.id, mallory.id],
  });
  const on = (device: typeof alice) => device.client.conversations.get(group.id)!;
  await until(() =>
    [bob, mallory].every((device) => device.client.conversations.get(group.id) !== undefined),
  );
  await group.setRole(mallory.id, "admin");
  await until(() =>
    on(mallory)
      .members()
      .some((m) => m.accountId === mallory.id && m.role === "admin"),
  );
  const members = database!.all("SELECT * FROM group_member");
  const state = database!.all("SELECT * FROM group_state");

  await group.remove(mallory.id);
  await until(() => on(mallory).state === "removed" && on(bob).memberCount === 2);

  // A client that lies to itself: everything it knew before the removal is back. By its own storage, which keeps rows.
  const { storage } = (mallory.client as unknown as { context: { storage: Storage } }).context;
  storage.exec("UPDATE conversation SET state = 'active' WHERE kind = 'group'");
  storage.exec("UPDATE group_member SET removed_at = NULL");
  storage.run("UPDATE group_state SET revision = ?, hash = ?, group_key = ?, fence = ?", [
    state[0]!["revision"]!,
    state[0]!["hash"]!,
    state[0]!["group_key"]!,
    state[0]!["fence"]!,
  ]);
  storage.run("DELETE FROM group_log WHERE revision > ?", [state[0]!["revision"]!]);
  expect(members).toHaveLength(3);

  await expect(on(mallory).setTitle("Mine now")).rejects.toThrow("group/access-denied");
  await on(mallory).send({ text: "am I still here?" });
  await expect(mallory.client.outbox.settled({ timeoutMs: 500 })).rejects.toThrow("outbox/still-waiting");
  await group.send({ text: "among ourselves" });
  await until(() => textsOf(bob.client, group.id).includes("among ourselves"));
  for (const device of [alice, bob]) {
    expect(on(device).title).toBe("Birds");
    expect(textsOf(device.client, group.id)).not.toContain("am I still here?");
  }
  expect(textsOf(mallory.client, group.id)).not.toContain("among ourselves");
});
