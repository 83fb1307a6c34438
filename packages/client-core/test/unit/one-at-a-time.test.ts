import { expect, test } from "vitest";
import { oneAtATime } from "../../src/shell/one-at-a-time.ts";

test("one work follows the other, whether or not the one before came to a good end", async () => {
  const steps: string[] = [];
  const work = (name: string, failure?: Error) => async () => {
    steps.push(`${name} begins`);
    await new Promise((resolve) => setImmediate(resolve));
    steps.push(`${name} ends`);
    if (failure !== undefined) throw failure;
    return name;
  };
  const first = oneAtATime(work("first", new Error("refused")));
  const second = oneAtATime(work("second"));
  await expect(first).rejects.toThrow("refused");
  expect(await second).toBe("second");
  expect(steps).toEqual(["first begins", "first ends", "second begins", "second ends"]);
});
