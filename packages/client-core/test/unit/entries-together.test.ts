import { groupId } from "@murmuration/base";
import { expect, test } from "vitest";
import { EntriesTogether } from "../../src/shell/communities/entries-together.ts";

type Frame = Parameters<EntriesTogether["put"]>[0];

const [ours, theirs] = [1, 2].map((n) => groupId(new Uint8Array(16).fill(n))) as [
  Frame["groupId"],
  Frame["groupId"],
];
const frame = (id: Frame["groupId"], ...sequences: number[]): Frame => ({
  kind: "groupEntries",
  groupId: id,
  entries: sequences.map((sequence) => ({ sequence, serverTimeMs: 1 }) as Frame["entries"][number]),
  lastSequence: sequences.at(-1)!,
});
const endOfPiece = () => new Promise<void>((resolve) => setImmediate(resolve));

function taking() {
  const taken: string[] = [];
  const together = new EntriesTogether(({ entries, groupId: [first], lastSequence }) =>
    taken.push(`${first}: ${entries.map(({ sequence }) => sequence).join(" ")} of ${lastSequence}`),
  );
  return { taken, together };
}

test("frames of a group that come in one piece are taken together, when the piece has been read", async () => {
  const { taken, together } = taking();
  for (const sequence of [4, 5, 6]) together.put(frame(ours, sequence));
  together.put(frame(ours, 7, 8));
  expect(taken).toEqual([]);
  await endOfPiece();
  expect(taken).toEqual(["1: 4 5 6 7 8 of 8"]);
  together.put(frame(ours, 9));
  await endOfPiece();
  expect(taken).toEqual(["1: 4 5 6 7 8 of 8", "1: 9 of 9"]);
});

test("frames of several groups, and what is no entry, are taken in the order in which they came", async () => {
  const { taken, together } = taking();
  together.put(frame(ours, 4));
  together.put(frame(theirs, 1));
  together.put(frame(theirs, 2));
  together.put(frame(ours, 5));
  together.flush();
  taken.push("a turn");
  together.flush();
  together.put(frame(ours, 6));
  await endOfPiece();
  expect(taken).toEqual(["1: 4 of 4", "2: 1 2 of 2", "1: 5 of 5", "a turn", "1: 6 of 6"]);
});

test("the last entries of a stream that is over are not taken together with the first ones of the next stream", async () => {
  const { taken, together } = taking();
  together.put(frame(ours, 7));
  together.put(frame(ours, 8));
  together.put(frame(ours, 3, 4, 5));
  together.put(frame(ours, 6));
  together.put(frame(ours, 8));
  await endOfPiece();
  expect(taken).toEqual(["1: 7 8 of 8", "1: 3 4 5 6 of 6", "1: 8 of 8"]);
});

test("what came over a connection that is gone is not taken: it comes again", async () => {
  const { taken, together } = taking();
  together.put(frame(ours, 4));
  together.drop();
  await endOfPiece();
  together.put(frame(ours, 3));
  await endOfPiece();
  expect(taken).toEqual(["1: 3 of 3"]);
});

test("what breaks while entries are taken is not taken a second time with the next ones", async () => {
  let calls = 0;
  const together = new EntriesTogether(() => {
    calls++;
    if (calls === 1) throw new Error("broken");
  });
  together.put(frame(ours, 4));
  expect(() => together.flush()).toThrow("broken");
  await endOfPiece();
  expect(calls).toBe(1);
});

test("a frame with as many entries as a service can put into it ends nothing", async () => {
  let count = 0;
  const together = new EntriesTogether(({ entries }) => {
    count += entries.length;
  });
  const many = Array.from({ length: 500_000 }, (_, index) => index + 1);
  const entries = many.map((sequence) => ({ sequence, serverTimeMs: 1 }) as Frame["entries"][number]);
  together.put({ ...frame(ours, 1), entries });
  together.put({ ...frame(ours, 1), entries });
  await endOfPiece();
  expect(count).toBe(1_000_000);
});
