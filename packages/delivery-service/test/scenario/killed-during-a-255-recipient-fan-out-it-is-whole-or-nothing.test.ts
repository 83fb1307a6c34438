import { formatId } from "@murmuration/base";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { query } from "../support/database.ts";
import { random } from "../support/random.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { startTestService, type TestService, temporaryDirectory } from "../support/service.ts";
import { type ServiceProcess, startServiceProcess } from "../support/service-process.ts";
import { registerMany, sealedTo, type TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const RECIPIENTS = 255;

describe("a submit to 255 recipients", () => {
  const directory = temporaryDirectory();
  const database = `${directory.path}/delivery-service.sqlite`;
  let members: TestDevice[];

  beforeAll(async () => {
    const service = await startServiceProcess(directory.path);
    members = await registerMany(service.base, RECIPIENTS);
    expect(await service.terminate()).toBe(0);
  }, 120_000);
  afterAll(() => directory.remove());

  const stored = () => Number(query(database, "SELECT count(*) AS n FROM envelopes")[0]!["n"]);
  const submitHashes = () => Number(query(database, "SELECT count(*) AS n FROM submits")[0]!["n"]);

  it("killed at any moment and started again, it is whole or nothing; sent again, it is there once", async () => {
    const { next, seed } = seededRandom();
    console.log(`seed ${seed}`);
    let service = await startServiceProcess(directory.path);
    let whole = 0;
    // Kills close in on the moment between arrival and answer: later than the last one that cut an answer off,
    // earlier than the first one that came too late.
    let early = 0;
    let late = 60;
    const fates = { "killed-in-flight-nothing": 0, "killed-in-flight-whole": 0, "killed-after-answer": 0 };
    for (let round = 0; round < 14; round++) {
      const submit = { kind: "submitSealed", ...sealedTo(members, random(400)) } as const;
      const delayMs = early + next() * (late - early);
      const answered = await submitAndKill(service, submit, delayMs);
      if (answered) late = Math.max(delayMs, early + 2);
      else early = Math.max(0, Math.min(delayMs, late) - 4);
      const now = stored();
      // Whole or nothing, the memory of the submit in the same transaction, and accepted means durable.
      expect([whole * RECIPIENTS, (whole + 1) * RECIPIENTS]).toContain(now);
      expect(submitHashes()).toBe(now / RECIPIENTS);
      if (answered) expect(now).toBe((whole + 1) * RECIPIENTS);
      const arrived = now > whole * RECIPIENTS;
      fates[
        answered ? "killed-after-answer" : arrived ? "killed-in-flight-whole" : "killed-in-flight-nothing"
      ]++;
      service = await startServiceProcess(directory.path);
      const sender = await TestSocket.anonymous(service.port);
      expect(await sender.request(submit)).toMatchObject({ kind: "submitAccepted", repeatedSubmit: arrived });
      whole++;
      expect(stored()).toBe(whole * RECIPIENTS);
      await sender.close();
    }
    console.log(JSON.stringify(fates));
    // The run proves nothing unless a kill hit a fan-out that was under way.
    expect(fates["killed-in-flight-nothing"] + fates["killed-in-flight-whole"]).toBeGreaterThan(0);
    const perMailbox = query(database, "SELECT count(*) AS n FROM envelopes GROUP BY mailbox");
    expect(new Set(perMailbox.map((row) => row["n"]))).toEqual(new Set([whole]));
    await service.terminate();
  }, 120_000);

  /** Sends, kills after a while, and says whether the answer had come. */
  async function submitAndKill(
    service: ServiceProcess,
    submit: Parameters<TestSocket["request"]>[0],
    delayMs: number,
  ): Promise<boolean> {
    const sender = await TestSocket.anonymous(service.port);
    let answered = false;
    const answer = sender.request(submit).then(
      () => {
        answered = true;
      },
      () => {},
    );
    await new Promise((resolve) => setTimeout(resolve, delayMs));
    await service.kill();
    await answer;
    return answered;
  }
});

describe("a submit to 255 recipients, counted", () => {
  let service: TestService;
  beforeAll(async () => {
    service = await startTestService();
  });
  afterAll(() => service.stop());

  it("is durable for all mailboxes in one transaction", async () => {
    const members = await registerMany(service.base, RECIPIENTS);
    const sender = await TestSocket.anonymous(service.port);
    const transactions = async () => {
      const metrics = await (await fetch(`${service.base}/metrics`)).text();
      return Number(/^murmuration_store_transactions_total\{label=""\} (\d+)$/m.exec(metrics)![1]);
    };
    const before = await transactions();
    const answer = await sender.request({ kind: "submitSealed", ...sealedTo(members, random(400)) });
    expect(answer).toMatchObject({ kind: "submitAccepted" });
    expect((await transactions()) - before).toBe(1);
    const rows = query(service.databasePath, "SELECT account_id, last_id, envelopes FROM mailboxes");
    expect(rows).toHaveLength(RECIPIENTS);
    expect(rows.every((row) => row["last_id"] === 1 && row["envelopes"] === 1)).toBe(true);
    expect(
      new Set(rows.map((row) => Buffer.from(row["account_id"] as Uint8Array).toString("base64url"))),
    ).toEqual(new Set(members.map((member) => formatId(member.accountId))));
  }, 120_000);
});
