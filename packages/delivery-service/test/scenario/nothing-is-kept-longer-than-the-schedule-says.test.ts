import { type AccountId, blobId, formatId, groupId } from "@murmuration/base";
import { BLOB_CONTENT_TYPE } from "@murmuration/wire";
import { describe, expect, it } from "vitest";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import { createConfig } from "../../src/config.ts";
import { dayOf } from "../../src/core/days.ts";
import { startDeliveryService } from "../../src/main.ts";
import { query } from "../support/database.ts";
import { createGroup } from "../support/group-access.ts";
import { commitFrom, messageTo, newGroup } from "../support/mls-groups.ts";
import { random } from "../support/random.ts";
import { movableClock, temporaryDirectory, unhurried } from "../support/service.ts";
import { callRaw, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const DAY_MS = 86_400_000;

const keyPackage = (expiresAtMs: number) => ({ reference: random(32), message: random(300), expiresAtMs });

describe("nothing is kept longer than the schedule says", () => {
  it("a retention run removes what is overdue and nothing else, and an auditor can see it", async () => {
    const directory = temporaryDirectory();
    const database = `${directory.path}/delivery-service.sqlite`;
    const overdue = () =>
      Object.fromEntries(
        query(database, "SELECT * FROM retention_overdue").map((row) => [row["job"], row["overdue"]]),
      );
    const none = {
      envelopes: 0,
      submits: 0,
      blobs: 0,
      "unfinished-uploads": 0,
      "key-packages": 0,
      "group-entries": 0,
      "push-handles": 0,
      "push-handles-of-leaves": 0,
      "idle-devices": 0,
      "idle-groups": 0,
      "idle-mls-groups": 0,
      "lost-commits": 0,
      "orphaned-mailboxes": 0,
    };
    const clock = movableClock(Date.now() - 401 * DAY_MS);
    const service = await startDeliveryService(
      createConfig({ dataDirectory: directory.path, limits: unhurried, logLevel: "silent" }),
      { clock },
    );
    const base = `http://127.0.0.1:${service.port}`;
    const send = async (to: TestDevice) => {
      const sender = await TestSocket.anonymous(service.port);
      await sender.request({ kind: "submitSealed", ...sealedTo([to]) });
      await sender.close();
    };
    const put = async (owner: TestDevice) => {
      const headers = { ...owner.headers(), "content-type": BLOB_CONTENT_TYPE };
      const path = `/v1/blobs/${formatId(blobId(random(16)))}`;
      expect((await callRaw(base, "PUT", path, headers, random(70_000))).status).toBe(204);
      return path;
    };

    // 401 days ago: an account that never comes back, a group of each kind, and a mailbox that a crash left behind.
    const gone = await TestDevice.register(base);
    await createGroup(base, groupId(random(16)), random(16), random(50));
    const bare = openSqliteStores(directory.path);
    const nobody = random(16) as unknown as AccountId;
    await bare.mailboxes.open({ accountId: nobody, deviceId: gone.deviceId }, clock.now());
    await bare.mlsGroups.create(newGroup({ day: dayOf(clock.now()) }));
    // 31 days ago: an envelope, a submit, a blob, a KeyPackage and a community's log of somebody who is active.
    clock.advance(370 * DAY_MS);
    const bob = await TestDevice.register(base);
    const address = { accountId: bob.accountId, deviceId: bob.deviceId };
    const [soon, later] = [1, 90].map((days) => keyPackage(clock.now() + days * DAY_MS));
    // Renewed 61 days ago, and today.
    const [old, fresh] = [61, 0].map((days) => dayOf(clock.now() + 31 * DAY_MS) - days) as [number, number];
    const leaf = { signatureKey: random(32), handle: random(85) };
    const renewed = { signatureKey: random(32), handle: random(85) };
    const group = groupId(random(16));
    await bare.pushHandles.setMailbox({ accountId: nobody, deviceId: bob.deviceId }, random(85), old);
    await bare.pushHandles.setMailbox(address, random(85), fresh);
    await bare.pushHandles.setLeaf(group, leaf, old);
    await bare.pushHandles.setLeaf(group, renewed, fresh);
    const lastResort = keyPackage(clock.now() + 2 * DAY_MS);
    await bare.keyPackages.upload(
      address,
      { uploadId: random(16), keyPackages: [soon!, later!], lastResort, replace: false },
      9,
    );
    const community = newGroup({ day: dayOf(clock.now()) });
    await bare.mlsGroups.create(community);
    const [message, commit] = [messageTo(community.groupId, 0), commitFrom(community.groupId, 0)];
    await bare.mlsGroups.appendMessage({ ...message, acceptedAtMs: clock.now() });
    await bare.mlsGroups.appendCommit({ ...commit, acceptedAtMs: clock.now() });
    const lost = (count: number) => ({ groupId: community.groupId, day: dayOf(clock.now()), count });
    await bare.lostCommits.add([lost(3)]);
    await send(bob);
    const oldBlob = await put(bob);
    // Today: what has to stay.
    clock.advance(31 * DAY_MS);
    await send(bob);
    const newBlob = await put(bob);
    await bare.mlsGroups.appendMessage(messageTo(community.groupId, 1, { acceptedAtMs: clock.now() }));
    await bare.lostCommits.add([lost(4)]);
    await createGroup(base, groupId(random(16)), random(16), random(50));

    expect(overdue()).toEqual({
      envelopes: 1,
      submits: 1,
      blobs: 1,
      "unfinished-uploads": 0,
      "key-packages": 2,
      "group-entries": 2,
      "push-handles": 1,
      "push-handles-of-leaves": 1,
      "idle-devices": 1,
      "idle-groups": 1,
      "idle-mls-groups": 1,
      "lost-commits": 1,
      // The idle account's mailbox has its device yet.
      "orphaned-mailboxes": 1,
    });
    await service.runRetention();
    expect(overdue()).toEqual(none);
    expect((await callRaw(base, "GET", oldBlob)).rejection?.code).toBe("blob/unknown");
    expect((await callRaw(base, "GET", newBlob)).status).toBe(200);
    expect(await bare.keyPackages.count(address, clock.now())).toEqual({
      keyPackages: 1,
      lastResort: false,
    });
    expect(await bare.mlsGroups.load(community.groupId)).toMatchObject({
      firstSequence: 3,
      lastSequence: 3,
      epoch: 1,
    });
    expect(await bare.lostCommits.since(community.groupId, 0)).toBe(4);
    expect(await bare.pushHandles.leaves(group, undefined, 9)).toEqual([renewed]);
    await bare.close();
    const own = await TestSocket.device(service.port, bob);
    expect((await own.envelopes(1)).map((envelope) => envelope.envelopeId)).toEqual([2]);
    await own.next("queueEmpty");
    const late = await TestSocket.open(service.port);
    expect(await late.request({ kind: "hello", versions: [1], auth: gone.auth() })).toMatchObject({
      code: "auth/invalid",
    });

    const runs = query(database, "SELECT job, removed, removed_total FROM retention_runs ORDER BY job");
    expect(runs.map((run) => [run["job"], run["removed"]])).toEqual([
      ["blobs", 1],
      ["envelopes", 1],
      ["group-entries", 2],
      ["idle-devices", 1],
      ["idle-groups", 1],
      ["idle-mls-groups", 1],
      ["key-packages", 2],
      ["lost-commits", 1],
      ["orphaned-mailboxes", 1],
      ["push-handles", 2],
      ["submits", 1],
      ["unfinished-uploads", 0],
    ]);
    await service.runRetention();
    const again = query(
      database,
      "SELECT sum(removed) AS now, sum(removed_total) AS ever FROM retention_runs",
    );
    expect(again).toEqual([{ now: 0, ever: 14 }]);
    await service.close();
    directory.remove();
  });
});
