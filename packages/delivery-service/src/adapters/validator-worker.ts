import { parentPort, workerData } from "node:worker_threads";
import { MurmurationError } from "@murmuration/base";
import { answerQuestion, carryOut } from "./follower-questions.ts";
import { Followers, NotLoaded } from "./followers.ts";
import type { FromWorker, ToWorker } from "./worker-validator.ts";

// The thread in which followers live: one message in, one answer out, in order.

const followers = new Followers((workerData as { readonly budgetBytes: number }).budgetBytes);

parentPort!.on("message", (message: ToWorker) => {
  if ("order" in message) carryOut(followers, message.order);
  else parentPort!.postMessage(answerTo(message));
});

function answerTo({ id, question, source }: Exclude<ToWorker, { readonly order: unknown }>): FromWorker {
  try {
    const value = answerQuestion(followers, question, source);
    return { id, kind: "value", value, followers: followers.count };
  } catch (error) {
    if (error instanceof NotLoaded) return { id, kind: "not-loaded" };
    const known = error instanceof MurmurationError;
    const code = known ? error.code : "validator/failed";
    const text = known ? error.message : error instanceof Error ? error.name : "";
    return { id, kind: "error", name: known ? error.name : "InvariantError", code, text };
  }
}
