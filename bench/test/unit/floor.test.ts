import { describe, expect, test } from "vitest";
import {
  contradictions,
  floorCounts,
  floorMs,
  meanPathLength,
  meanSharedNodes,
} from "../../src/mls/floor.ts";
import type { MlsImplementation } from "../../src/mls/implementation.ts";
import { murmuration } from "../../src/mls/murmuration.ts";
import { compareWithOpenssl, parseBlocks, parseCurves } from "../../src/mls/openssl-speed.ts";
import type { PrimitiveCosts } from "../../src/mls/primitives.ts";
import type { Operation } from "../../src/mls/rows.ts";
import { tsMls } from "../../src/mls/ts-mls.ts";
import { nativeSuite } from "../../src/mls/ts-mls-crypto.ts";
import { receiverLeaves, type Sample, UnitRunner, unitOperations, units } from "../../src/mls/units.ts";

const unit: PrimitiveCosts = {
  sign: 1,
  verify: 1,
  importPublicKey: 0,
  generateKeyPair: 0,
  derivePublicKey: 0,
  diffieHellman: 0,
  hash: 0,
  hashByte: 0,
  mac: 0,
  seal: 0,
  open: 0,
};

describe("path arithmetic of the floor (RFC 9420 section 4.1.2)", () => {
  test("a full tree has one path node a level", () => {
    expect(meanPathLength([0, 5, 7], 8)).toBe(3);
  });

  test("levels whose copath is empty are filtered: the ninth of nine members has its root alone", () => {
    expect(meanPathLength([8], 9)).toBe(1);
    expect(meanPathLength([0], 9)).toBe(4);
  });

  test("a sibling shares the whole path, a member of the other half the root alone", () => {
    expect(meanSharedNodes([0], [1], 8)).toBe(3);
    expect(meanSharedNodes([0], [7], 8)).toBe(1);
    expect(meanSharedNodes([0], [0, 1, 7], 8)).toBe(2);
  });

  test("the mean over all receivers is just below 2, whatever the size", () => {
    const all = Array.from({ length: 1024 }, (_, leaf) => leaf);
    expect(meanSharedNodes([0], all, 1024)).toBeCloseTo(1.99, 1);
  });
});

describe("the floor's counts", () => {
  const input = { members: 1000, bytes: 0, path: 10, shared: 2 };

  test("processing a warm commit asks for two verifications and one HPKE opening at any size", () => {
    for (const members of [64, 1000, 10_000]) {
      expect(floorCounts("commit-process-warm", { ...input, members })).toMatchObject({
        verify: 2,
        hpkeOpen: 1,
        deriveHpkeKeyPair: 2,
      });
    }
  });

  test("time is counts times cost", () => {
    expect(floorMs({ sign: 3, verify: 2 }, unit)).toBeCloseTo(0.005);
  });

  test("a floor that claims more than was counted is contradicted", () => {
    expect(contradictions("join-warm", { verify: 5 }, { verify: 5 })).toEqual([]);
    expect(contradictions("join-warm", { verify: 5 }, { verify: 4 })).toEqual([
      "join-warm: the floor claims 5.00 verify, 4 were counted",
    ]);
  });
});

describe.each([
  { name: "ts-mls", make: () => tsMls(nativeSuite()) as MlsImplementation<unknown>, pooled: false },
  { name: "murmuration", make: () => murmuration() as MlsImplementation<unknown>, pooled: true },
])("$name on a real group of 13 does each public-key operation of the floor", ({ make, pooled }) => {
  const members = 13;
  const runner = new UnitRunner(make(), "floor test", () => undefined);
  const team = [0, ...receiverLeaves(members)];

  test.each(units.filter((name) => name !== "load"))("%s", async (name) => {
    const samples: Sample[] = await runner.run(name, members);
    if (name.endsWith("-pooled") && !pooled) {
      // No row for what an implementation cannot do.
      expect(samples).toEqual([]);
      return;
    }
    expect([...new Set(samples.map(({ operation }) => operation))]).toEqual(unitOperations[name]);
    // Warm commits go round the team within a run; the first is that of leaf 0, like every cold one.
    const firstRound = samples.slice(0, unitOperations[name].length);
    for (const { operation, counts } of firstRound) {
      const receivers = operation === "store-commit" ? [members - 1] : team;
      const input = {
        members,
        bytes: 0,
        path: meanPathLength([0], members),
        shared: meanSharedNodes([0], receivers, members),
      };
      const floor = floorCounts(operation as Operation, input)!;
      expect(contradictions(operation, floor, counts)).toEqual([]);
      const exact = ["sign", "verify", "hpkeSeal", "hpkeOpen"] as const;
      for (const count of exact) expect(counts[count] ?? 0, `${operation} ${count}`).toBe(floor[count] ?? 0);
    }
  });
});

describe("openssl speed", () => {
  test("is read from its machine-readable lines", () => {
    const curves = parseCurves("+F5:22:253:25000.0:0.00004\n+F6:0:253:Ed25519:20000.0:10000.0\n");
    expect(curves).toMatchObject({ diffieHellman: 40, sign: 50, verify: 100 });
    expect(parseBlocks("+H:64\n+F:25:sha256:64000000.0\n", "hash", 64)).toEqual({ hash: 1 });
    expect(parseBlocks("unexpected", "hash", 64)).toEqual({});
  });

  test("voids the ratio where a primitive is too slow, with more room for short hashes", () => {
    const slow = { ...unit, verify: 160, hash: 14, sign: 140 };
    const { tooSlow } = compareWithOpenssl(slow, { verify: 100, hash: 1, sign: 100 });
    expect(tooSlow).toEqual(["verify is 1.6 times slower than OpenSSL"]);
  });
});
