/** What the clients of a chaos run do until they are told to stop: they talk, and change their groups. */
import { setTimeout as sleep } from "node:timers/promises";
import { ProcessEnded, WorkerFailure } from "../processes.ts";
import { type SeededRandom, seededRandom } from "../seeded-random.ts";
import type { Crew, Group } from "./crew.ts";

/** A message that `send` took: from here on it may not be lost. */
export interface Said {
  readonly text: string;
  readonly sender: number;
  readonly group: Group;
}

export class Load {
  readonly said: Said[] = [];
  /** Changes of groups that were made, and what was answered to those that were not, by code. */
  changes = 0;
  readonly refusals: Record<string, number> = {};
  private readonly crew: Crew;
  private readonly loops: Promise<void>[] = [];
  private readonly stopping = new AbortController();

  constructor(crew: Crew, seed: number) {
    this.crew = crew;
    crew.groups.forEach((group, index) => {
      this.loops.push(this.talk(group, seededRandom(seed + 1_000 + index)));
      for (const admin of group.admins)
        this.loops.push(this.change(group, admin, seededRandom(seed + 2_000 + 100 * index + admin)));
    });
  }

  /** Resolves when everything that was begun has been answered. */
  async stop(): Promise<void> {
    this.stopping.abort();
    await Promise.all(this.loops);
  }

  private async pause(meanMs: number, random: SeededRandom): Promise<boolean> {
    await sleep(meanMs / 2 + random.below(meanMs), undefined, { signal: this.stopping.signal }).catch(
      () => {},
    );
    return !this.stopping.signal.aborted;
  }

  private async talk(group: Group, random: SeededRandom): Promise<void> {
    for (let count = 0; await this.pause(group.messageEveryMs, random); count++) {
      const sender = group.members[random.below(group.members.length)]!;
      const text = `${group.name} ${count}`;
      await this.try(async () => {
        await this.crew.ask(sender, "send", { group: group.id, text });
        this.said.push({ text, sender, group });
      });
    }
  }

  private async change(group: Group, admin: number, random: SeededRandom): Promise<void> {
    for (let count = 0; await this.pause(group.changeEveryMs, random); count++) {
      const guest = group.guests[random.below(group.guests.length)]!;
      const isOther = random.next() < 0.4;
      await this.try(async () => {
        const account = this.crew.accounts[guest]!.accountId;
        const where = { group: group.id, account };
        const isMember = await this.crew.ask<boolean>(admin, "isMember", where);
        const what = isOther ? (count % 2 === 0 ? "title" : "expiry") : isMember ? "remove" : "add";
        const value = admin * 1_000 + (count % 1_000);
        const outcome = await this.crew.ask<string>(admin, "change", { ...where, what, value });
        if (outcome === "done") this.changes++;
        else this.refuse(`left out: ${outcome}`);
      });
    }
  }

  private async try(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (error instanceof ProcessEnded) throw error;
      this.refuse(error instanceof WorkerFailure ? error.message : String(error));
    }
  }

  private refuse(code: string): void {
    this.refusals[code] = (this.refusals[code] ?? 0) + 1;
  }
}
