import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  idlenessAfter,
  isOthersTurn,
  joinerName,
  NO_LINE,
  placeOf,
  stepTurns,
  type TurnEvent,
  type TurnLine,
} from "../../src/core/turn-line.ts";

const TURN_MS = 5000;

/** A line that a test drives, with everything that was granted and ended. */
class Driven {
  line: TurnLine = NO_LINE;
  now = 1_000_000;
  step(event: TurnEvent) {
    const step = stepTurns(this.line, event, this.now, TURN_MS);
    this.line = step.line;
    return step;
  }
  lost = (who: string) => this.step({ kind: "lost", who });
}

describe("the line of turns", () => {
  it("gives the first who loses a race the turn at once, and the others their places behind it", () => {
    const group = new Driven();
    expect(group.lost("ann").granted).toMatchObject({ holder: "ann", reason: "line" });
    expect(group.lost("bob").granted).toBeUndefined();
    group.lost("cid");
    expect(["ann", "bob", "cid", "dan"].map((who) => placeOf(group.line, who))).toEqual([0, 1, 2, undefined]);
  });

  it("holds a place once for whoever loses again", () => {
    const group = new Driven();
    for (const who of ["ann", "bob", "bob", "ann", "cid"]) group.lost(who);
    expect(group.line.waiting).toEqual(["bob", "cid"]);
  });

  it("passes the turn on when it was used, given back, or has run out", () => {
    const group = new Driven();
    for (const who of ["ann", "bob", "cid", "dan"]) group.lost(who);
    const used = group.step({ kind: "committed", who: "ann" });
    expect([used.ended?.how, used.granted?.holder]).toEqual(["used", "bob"]);
    const given = group.step({ kind: "released", who: "bob", turn: used.granted!.turn });
    expect([given.ended?.how, given.granted?.holder]).toEqual(["released", "cid"]);
    group.now += TURN_MS;
    const expired = group.step({ kind: "looked" });
    expect([expired.ended?.how, expired.granted?.holder]).toEqual(["expired", "dan"]);
  });

  it("knows an older turn's number from the present one", () => {
    const group = new Driven();
    const first = group.lost("ann").granted!;
    group.step({ kind: "committed", who: "ann" });
    const second = group.lost("ann").granted!;
    expect(second.turn).toBeGreaterThan(first.turn);
    expect(group.step({ kind: "released", who: "ann", turn: first.turn }).ended).toBeUndefined();
    expect(group.step({ kind: "released", who: "bob", turn: second.turn }).ended).toBeUndefined();
  });

  it("lets a turn run on while its holder reconnects, and frees the place of who waited and left", () => {
    const group = new Driven();
    for (const who of ["ann", "bob", "cid"]) group.lost(who);
    expect(group.step({ kind: "left", who: "ann" }).ended).toBeUndefined();
    group.step({ kind: "left", who: "bob" });
    expect(placeOf(group.line, "cid")).toBe(1);
    expect(group.step({ kind: "gone", who: "ann" }).granted?.holder).toBe("cid");
  });

  it("offers a turn of the service's own only when nobody has one and nobody waits", () => {
    const group = new Driven();
    group.lost("ann");
    group.lost("bob");
    expect(group.step({ kind: "offered", who: "cid", reason: "warm-up" }).granted).toBeUndefined();
    expect(group.step({ kind: "committed", who: "ann" }).granted?.holder).toBe("bob");
    group.step({ kind: "committed", who: "bob" });
    const offered = group.step({ kind: "offered", who: "cid", reason: "warm-up" });
    expect(offered.granted).toMatchObject({ holder: "cid", reason: "warm-up" });
  });

  it("lets at most one joiner have its turn between two members, and keeps each's order", () => {
    const group = new Driven();
    const joiners = ["0", "1", "2", "3"].map(joinerName);
    for (const who of [...joiners, "ann", "bob"]) group.lost(who);
    const [first, second, third, fourth] = joiners;
    expect(group.line.waiting).toEqual(["ann", second, "bob", third, fourth]);
    expect(group.step({ kind: "gone", who: second! }).line.waiting).toEqual(["ann", "bob", third, fourth]);
    expect(group.step({ kind: "committed", who: first! }).granted?.holder).toBe("ann");
    // Who left behind two joiners does not leave a member behind both.
    expect(group.lost("cid").line.waiting).toEqual(["bob", third, "cid", fourth]);
  });

  it("asks for the removal of the banned before whoever waits, after the turn that runs", () => {
    const group = new Driven();
    for (const who of ["ann", "bob"]) group.lost(who);
    expect(group.step({ kind: "offered", who: "eve", reason: "ban" }).granted).toBeUndefined();
    expect(placeOf(group.line, "bob")).toBe(2);
    expect(group.step({ kind: "committed", who: "ann" }).granted).toMatchObject({
      holder: "eve",
      reason: "ban",
    });
    expect(group.step({ kind: "committed", who: "eve" }).granted?.holder).toBe("bob");
    group.step({ kind: "offered", who: "eve", reason: "ban" });
    group.step({ kind: "left", who: "eve" });
    expect(group.step({ kind: "committed", who: "bob" }).granted).toBeUndefined();
  });

  it("keeps who let turns pass out for a time that doubles, and forgets it after as long a calm", () => {
    const first = idlenessAfter(undefined, TURN_MS, 0, TURN_MS);
    expect(first).toEqual({ coolDownMs: 20_000, untilMs: 20_000 });
    const again = idlenessAfter(first, TURN_MS, 39_999, TURN_MS);
    expect(again.coolDownMs).toBe(40_000);
    expect(idlenessAfter(first, TURN_MS, 40_000, TURN_MS).coolDownMs).toBe(20_000);
    let last = again;
    for (let i = 0; i < 9; i++) last = idlenessAfter(last, TURN_MS, last.untilMs, TURN_MS);
    expect(last.coolDownMs).toBe(600_000);
    expect(idlenessAfter(undefined, 0, 0, TURN_MS).coolDownMs).toBe(0);
  });

  it("keeps nobody from committing when the turn has passed", () => {
    const group = new Driven();
    group.lost("ann");
    expect(isOthersTurn(group.line, "bob", group.now)).toBe(true);
    expect(isOthersTurn(group.line, "ann", group.now)).toBe(false);
    expect(isOthersTurn(group.line, "bob", group.now + TURN_MS)).toBe(false);
  });

  it("numbers turns upwards, also after a restart that forgot the last number", () => {
    const before = new Driven();
    const last = before.lost("ann").granted!;
    const after = new Driven();
    after.now = before.now + 1;
    expect(after.lost("ann").granted!.turn).toBeGreaterThan(last.turn);
  });

  it("law: one turn at a time, rising numbers, first come first served, nobody twice, no turn without end", () => {
    const who = fc.constantFrom("ann", "bob", "cid", "dan");
    const event = fc.oneof(
      fc.record({
        kind: fc.constantFrom("lost" as const, "committed" as const, "left" as const, "gone" as const),
        who,
      }),
      fc.record({ kind: fc.constant("offered" as const), who, reason: fc.constant("proposals" as const) }),
      fc.record({ kind: fc.constant("looked" as const) }),
    );
    fc.assert(
      fc.property(
        fc.array(fc.tuple(event, fc.integer({ min: 0, max: 6000 })), { maxLength: 60 }),
        (events) => {
          const group = new Driven();
          let lastTurn = 0;
          for (const [next, pause] of events) {
            group.now += pause;
            const before = group.line;
            const { granted, ended, line } = group.step(next);
            if (granted !== undefined) {
              expect(granted.turn).toBeGreaterThan(lastTurn);
              lastTurn = granted.turn;
              expect(before.current === undefined || ended !== undefined).toBe(true);
              const head = before.waiting.find(
                (name) =>
                  !("who" in next) || next.kind === "lost" || next.kind === "offered" || name !== next.who,
              );
              if (head !== undefined) expect(granted.holder).toBe(head);
            }
            expect(new Set(line.waiting).size).toBe(line.waiting.length);
            expect(line.waiting).not.toContain(line.current?.holder);
            if (line.current === undefined) expect(line.waiting).toEqual([]);
            else expect(line.current.expiresAtMs).toBeGreaterThan(group.now);
          }
        },
      ),
    );
  });
});
