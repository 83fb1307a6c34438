import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { expectKind, Member, startCommunity } from "../support/community.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";

const MONTH_MS = 31 * 86_400_000;
/** Entries that a reader is sent before it has to put some down. */
const WINDOW = 2;

describe("a reader whose next entry has expired while it was connected", () => {
  const clock = movableClock(Date.now());
  let service: TestService;
  let alice: Member;
  let bob: Member;

  beforeEach(async () => {
    service = await startTestService({
      clock,
      limits: { unacknowledgedEntries: WINDOW, entriesPerDeliver: WINDOW },
    });
    [alice, bob] = [await Member.register(service), (await Member.strangers(service, 1))[0]!];
    await startCommunity(service, [alice, bob]);
    await bob.open(service, 1);
  });
  afterEach(() => service.stop());

  /** Alice says it, and keeps up with the log herself. */
  const sayAll = async (...texts: readonly string[]) => {
    for (const text of texts) {
      const answer = await alice.socket.request(alice.say(text));
      const { sequence } = expectKind(answer, "groupSubmitAccepted");
      await alice.catchUp(sequence);
      await alice.acknowledge(sequence);
    }
  };

  it("is told to come back instead of being given what comes behind the gap, and then to join again", async () => {
    await sayAll("one", "two", "three", "four");
    // It reads no further than its window: entries 4 and 5 wait for it.
    await bob.catchUp(1 + WINDOW);
    clock.advance(MONTH_MS);
    await service.runRetention();
    await sayAll("a month later");

    const acknowledged = bob.acknowledge(1 + WINDOW).catch(() => undefined);
    expect(await bob.socket.next("resumeHint")).toMatchObject({ retryAfterMs: expect.any(Number) });
    expect(await bob.socket.closed).toMatchObject({ code: 1013 });
    await acknowledged;
    bob.takeIn();
    expect(bob.heard).toEqual(["one", "two"]);

    await bob.connect(service);
    expect(await bob.socket.request(bob.accessFrame(1 + WINDOW))).toMatchObject({ code: "group/rejoin" });
  });
});
