import type { CommitValidator } from "../ports/commit-validator.ts";
import { answerQuestion, carryOut, validatorOver } from "./follower-questions.ts";
import { Followers, NotLoaded } from "./followers.ts";

const DEFAULT_BUDGET_BYTES = 64 * 1024 * 1024;

/** {@link CommitValidator} on the calling thread, which waits while it works: for tests. */
export function createInProcessValidator(budgetBytes = DEFAULT_BUDGET_BYTES): CommitValidator {
  const followers = new Followers(budgetBytes);
  return validatorOver({
    async ask(question, load) {
      try {
        return answerQuestion(followers, question, undefined);
      } catch (error) {
        if (!(error instanceof NotLoaded) || load === undefined) throw error;
      }
      return answerQuestion(followers, question, await load());
    },
    tell: (order) => carryOut(followers, order),
    close: async () => {},
  });
}
