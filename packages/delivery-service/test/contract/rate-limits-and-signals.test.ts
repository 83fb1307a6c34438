import { accountId, type DeviceId } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { MemoryMailboxSignals } from "../../src/adapters/memory-mailbox-signals.ts";
import { MemoryRateLimits } from "../../src/adapters/memory-rate-limits.ts";
import type { MailboxListener, MailboxSignals } from "../../src/ports/mailbox-signals.ts";
import type { RateLimits } from "../../src/ports/rate-limits.ts";
import { random } from "../support/random.ts";
import { movableClock } from "../support/service.ts";

const clock = movableClock(1_000_000);
const rateLimitAdapters: readonly { readonly name: string; create(): RateLimits }[] = [
  { name: "memory", create: () => new MemoryRateLimits(clock) },
];
const signalAdapters: readonly { readonly name: string; create(): MailboxSignals }[] = [
  { name: "memory", create: () => new MemoryMailboxSignals() },
];

describe.each(rateLimitAdapters)("rate limits on $name", ({ create }) => {
  const size = { capacity: 3, refillPerSecond: 1 };
  const charge = (key: string, cost = 1) => ({ key, size, cost });

  it("takes every charge or none", async () => {
    const limits = create();
    expect(await limits.take([charge("a", 2), charge("b", 2)])).toEqual({ allowed: true, retryAfterMs: 0 });
    expect(await limits.take([charge("c", 3), charge("a", 2)])).toEqual({
      allowed: false,
      retryAfterMs: 1_000,
    });
    expect(await limits.take([charge("c", 3)])).toMatchObject({ allowed: true });
    clock.advance(1_000);
    expect(await limits.take([charge("a", 2), charge("b", 2)])).toMatchObject({ allowed: true });
  });

  it("counts one key twice when it is charged twice", async () => {
    const limits = create();
    expect(await limits.take([charge("a", 2), charge("a", 2)])).toMatchObject({ allowed: false });
    expect(await limits.take([charge("a", 1), charge("a", 2)])).toMatchObject({ allowed: true });
  });

  it("forgets full buckets, not empty ones, when very many keys come", async () => {
    const limits = create();
    await limits.take([charge("spent", 3)]);
    for (let i = 0; i < 5_000; i++) await limits.take([charge(`key ${i}`)]);
    expect(await limits.take([charge("spent", 3)])).toMatchObject({ allowed: false });
  });
});

describe.each(signalAdapters)("mailbox signals on $name", ({ create }) => {
  const address = () => ({ accountId: accountId(random(16)), deviceId: 1 as DeviceId });

  function listener(): MailboxListener & { readonly heard: string[] } {
    const heard: string[] = [];
    return {
      heard,
      lookAgain: () => void heard.push("look again"),
      ephemeral: ({ ciphertext }) => void heard.push(`ephemeral ${ciphertext.length}`),
      stockLow: ({ preKeys }) => void heard.push(`stock ${preKeys}`),
    };
  }

  it("reaches who listens for the address, and nobody after the end of the subscription", () => {
    const signals = create();
    const [here, there] = [address(), address()];
    const [a, b, other] = [listener(), listener(), listener()];
    const end = signals.subscribe(here, a);
    signals.subscribe(here, b);
    signals.subscribe(there, other);
    signals.publish([here, address()]);
    signals.forward(here, { ciphertext: random(7), acceptedAtMs: 0 });
    signals.stockLow(here, { preKeys: 24, kyberPreKeys: 30 });
    end();
    signals.publish([here]);
    expect(a.heard).toEqual(["look again", "ephemeral 7", "stock 24"]);
    expect(b.heard).toEqual([...a.heard, "look again"]);
    expect(other.heard).toEqual([]);
  });
});
