import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { query } from "../support/database.ts";
import { temporaryDirectory } from "../support/service.ts";
import { type ServiceProcess, startServiceProcess } from "../support/service-process.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("a Welcome is in its mailbox once, and never before its commit", () => {
  const directory = temporaryDirectory();
  const database = `${directory.path}/delivery-service.sqlite`;
  let service: ServiceProcess;
  let alice: Member;
  let bob: Member;

  beforeAll(async () => {
    service = await startServiceProcess(directory.path);
    [alice, bob] = [await Member.register(service), await Member.register(service)];
    await startCommunity(service, [alice]);
    await service.terminate();
  }, 60_000);
  afterAll(() => directory.remove());

  const rows = (table: string) => Number(query(database, `SELECT count(*) AS n FROM ${table}`)[0]!["n"]);

  it("killed between the commit's transaction and the mailbox, it is carried there after the restart, once", async () => {
    service = await startServiceProcess(directory.path, {}, "outbox");
    await alice.connect(service);
    await alice.open(service, 0);
    const made = alice.makeAdd([bob]);
    // Answered or cut off: the kill comes right behind the answer.
    await alice.socket.request(made.frame).catch(() => undefined);
    await service.ended;
    // The commit is durable, and so is the Welcome; no mailbox has it.
    expect([rows("mls_entries"), rows("mls_outbox"), rows("envelopes")]).toEqual([1, 1, 0]);

    // Killed again: after the mailbox has it, before the outbox forgets it.
    service = await startServiceProcess(directory.path, {}, "removeFromOutbox");
    await service.ended;
    expect([rows("mls_outbox"), rows("envelopes")]).toEqual([1, 1]);

    service = await startServiceProcess(directory.path);
    await alice.connect(service);
    await alice.open(service, 0);
    expectKind(await alice.commit(made), "groupCommitAccepted");
    const mailbox = await TestSocket.device(service.port, bob.device);
    const [envelope] = await mailbox.envelopes(1);
    expect(envelope!.welcome).toMatchObject({ sequence: 1 });
    await mailbox.next("queueEmpty");
    expect(mailbox.pushed.filter((body) => body.kind === "deliver")).toHaveLength(1);
    expect([rows("mls_outbox"), rows("envelopes")]).toEqual([0, 1]);
    bob.join(envelope!.welcome!.welcome, made.keyPackages[0]!, alice.group.ratchetTree());
    expect(bob.group.epochAuthenticator()).toEqual(alice.group.epochAuthenticator());
  }, 60_000);

  it("a commit that lost leaves no Welcome behind", async () => {
    const carol = await Member.register(service);
    await bob.open(service, 1);
    const [won, lost] = [bob.makeCommit(), alice.makeAdd([carol])];
    expectKind(await bob.commit(won), "groupCommitAccepted");
    expectKind(await alice.socket.request(lost.frame), "groupCommitLost");
    const mailbox = await TestSocket.device(service.port, carol.device);
    await mailbox.next("queueEmpty");
    expect(mailbox.pushed.filter((body) => body.kind === "deliver")).toEqual([]);
    expect(rows("mls_outbox")).toBe(0);
    await service.terminate();
  }, 60_000);
});
