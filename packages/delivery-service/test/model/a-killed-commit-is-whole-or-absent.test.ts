import { fork } from "node:child_process";
import { once } from "node:events";
import { fileURLToPath } from "node:url";
import { fromUtf8, toHex } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";
import type { CommitterMessage } from "../support/committer.ts";
import { query } from "../support/database.ts";
import { commitFrom, newGroup, wholeLog } from "../support/mls-groups.ts";
import { seededRandom } from "../support/seeded-random.ts";
import { temporaryDirectory } from "../support/service.ts";

const COMMITTER = fileURLToPath(new URL("../support/committer.ts", import.meta.url));
const ROUNDS = 16;

/** Lets a process commit, kills it after a while, and says what it had said by then. */
async function commitAndKill(directory: string, group: string, delayMs: number): Promise<CommitterMessage[]> {
  const child = fork(COMMITTER, [directory, group], {
    execArgv: [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
    ],
  });
  const said: CommitterMessage[] = [];
  child.on("message", (message) => said.push(message as CommitterMessage));
  const ended = Promise.all([once(child, "exit"), once(child, "disconnect")]);
  await Promise.race([once(child, "message"), ended]);
  await new Promise((resolve) => setTimeout(resolve, delayMs));
  child.kill("SIGKILL");
  const [[, signal]] = await ended;
  await new Promise((resolve) => setImmediate(resolve));
  expect(signal).toBe("SIGKILL");
  return said;
}

describe("a process that commits and is killed at any moment", () => {
  it("leaves a log without gaps, one commit for each epoch, and each with all its Welcomes or not at all", async () => {
    const { next, seed } = seededRandom();
    console.log(`seed ${seed}`);
    const directory = temporaryDirectory();
    const file = `${directory.path}/delivery-service.sqlite`;
    const id = newGroup().groupId;
    const before = openSqliteStores(directory.path);
    await before.mlsGroups.create(newGroup({ groupId: id }));
    await before.close();
    const fates = { "killed-after-answer": 0, "killed-in-flight-whole": 0, "killed-in-flight-absent": 0 };

    for (let round = 0; round < ROUNDS; round++) {
      const said = await commitAndKill(directory.path, toHex(id), next() * 120);
      const stores = openSqliteStores(directory.path);
      const store = stores.mlsGroups;
      const row = (await store.load(id))!;
      const log = await wholeLog(store, id);

      expect(log.map((entry) => entry.sequence)).toEqual(log.map((_, i) => i + 1));
      expect(row.lastSequence).toBe(log.length);
      const voided = new Set(log.map((entry) => entry.voids));
      const counting = log.filter((entry) => entry.kind === "commit" && !voided.has(entry.sequence));
      expect(counting).toHaveLength(row.epoch);
      for (const [epoch, commit] of counting.entries()) {
        expect((await store.commitOf(id, epoch))?.at(-1)).toEqual(commit);
      }
      expect(row.lastCommitSequence).toBe(counting.at(-1)?.sequence ?? 0);
      expect((await store.loadTree(id, row.epoch))?.deltas).toHaveLength(row.epoch);

      // What belongs to a commit is there with it, and goes when it is voided.
      const countsOf = (table: string, column: string) =>
        query(file, `SELECT ${column} AS at, count(*) AS n FROM ${table} GROUP BY 1`).map(({ at, n }) => [
          at,
          n,
        ]);
      const announced = (place: number) =>
        counting
          .map((commit) => [commit.sequence, Number(fromUtf8(commit.message).split(" ")[place])])
          .filter(([, n]) => n !== 0);
      expect(countsOf("mls_outbox", "sequence")).toEqual(announced(0));
      expect(countsOf("mls_former_leaves", "removed_at")).toEqual(announced(1));

      // What was answered is durable.
      const at = (sequence: number) => log[sequence - 1];
      for (const { kind, sequence } of said) {
        if (kind === "appended") expect(at(sequence)?.kind).toBe("commit");
        if (kind === "voided") expect(voided).toContain(sequence);
      }
      const lastSaid = said.at(-1);
      const open = lastSaid?.kind === "begun" ? lastSaid.sequence : undefined;
      fates[
        open === undefined
          ? "killed-after-answer"
          : at(open)?.kind === "commit"
            ? "killed-in-flight-whole"
            : "killed-in-flight-absent"
      ]++;

      // And the group goes on.
      const following = commitFrom(id, row.epoch, { commit: new TextEncoder().encode("0 0") });
      expect(await store.appendCommit(following)).toMatchObject({ kind: "appended", epoch: row.epoch + 1 });
      await stores.close();
    }
    console.log(JSON.stringify(fates));
    // The run proves nothing unless a kill hit a commit that was under way.
    expect(fates["killed-in-flight-whole"] + fates["killed-in-flight-absent"]).toBeGreaterThan(0);
    directory.remove();
  });
});
