import { groupId, submitId } from "@murmuration/base";
import { afterEach, describe, expect, it } from "vitest";
import { generateGeneration, writeGroup } from "../support/group-access.ts";
import { random } from "../support/random.ts";
import { startTestService, type TestService, unhurried } from "../support/service.ts";
import { recipientOf, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

/** Strangers know no access key, and accounts cost them little: what they send must not shut out who has a key. */
describe("message requests of strangers take nothing from those who were invited", () => {
  let service: TestService;
  afterEach(() => service.stop());

  async function requestFrom(stranger: TestDevice, bob: TestDevice): Promise<string> {
    const own = await TestSocket.device(service.port, stranger);
    const { accountId, devices } = recipientOf([bob], random(100));
    const id = submitId(random(16));
    const answer = await own.request({ kind: "submitIdentified", submitId: id, accountId, devices });
    await own.close();
    return answer.kind === "rejection" ? answer.code : answer.kind;
  }

  async function sealTo(bob: TestDevice): Promise<string> {
    const sender = await TestSocket.anonymous(service.port);
    const answer = await sender.request({ kind: "submitSealed", ...sealedTo([bob]) });
    await sender.close();
    return answer.kind === "rejection" ? answer.code : answer.kind;
  }

  it("an eighth of a mailbox is theirs, the rest stays for sealed envelopes and one's own copies", async () => {
    service = await startTestService({ limits: { mailboxEnvelopes: 24 } });
    const bob = await TestDevice.register(service.base);
    const stranger = await TestDevice.register(service.base);
    const answers = [];
    for (let i = 0; i < 5; i++) answers.push(await requestFrom(stranger, bob));
    expect(answers).toEqual([...Array(3).fill("submitAccepted"), ...Array(2).fill("submit/mailbox-full")]);
    const sealed = [];
    for (let i = 0; i < 22; i++) sealed.push(await sealTo(bob));
    expect(sealed).toEqual([...Array(21).fill("submitAccepted"), "submitMismatch"]);
  });

  it("an address fills no disk with group records, and still changes those there are", async () => {
    service = await startTestService();
    const blob = random(1024 * 1024);
    const [id, key] = [groupId(random(16)), generateGeneration()];
    expect((await writeGroup(service.base, id, key, 0, blob, key)).status).toBe(200);
    const codes: (string | undefined)[] = [];
    for (let i = 0; i < 36; i++) {
      const other = groupId(random(16));
      codes.push((await writeGroup(service.base, other, key, 0, blob, key)).rejection?.code);
    }
    expect(codes.slice(0, 31)).toEqual(Array(31).fill(undefined));
    expect(codes.at(-1)).toBe("rate/limited");
    expect((await writeGroup(service.base, id, key, 1, blob)).status).toBe(200);
  }, 30_000);

  it("they do not use up the rate at which a recipient takes envelopes", async () => {
    const envelopesPerRecipient = { burst: 3, perMinute: 1 };
    service = await startTestService({ limits: { rates: { ...unhurried.rates, envelopesPerRecipient } } });
    const bob = await TestDevice.register(service.base);
    const stranger = await TestDevice.register(service.base);
    for (let i = 0; i < 3; i++) expect(await requestFrom(stranger, bob)).toBe("submitAccepted");
    expect(await requestFrom(stranger, bob)).toBe("rate/limited");
    for (let i = 0; i < 3; i++) expect(await sealTo(bob)).toBe("submitAccepted");
    expect(await sealTo(bob)).toBe("rate/limited");
  });
});
