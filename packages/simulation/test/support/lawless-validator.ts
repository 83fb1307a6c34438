import type { Replacements } from "@murmuration/delivery-service";
import { openPolicy } from "@murmuration/mls-groups";
import {
  answerQuestion,
  carryOut,
  validatorOver,
} from "../../../delivery-service/src/adapters/follower-questions.ts";
import { Followers, NotLoaded } from "../../../delivery-service/src/adapters/followers.ts";

/** A service's validator that follows groups by RFC 9420 and by no rule of communities: it admits anybody. */
export function lawlessValidator(): NonNullable<Replacements["validator"]> {
  const followers = new Followers(64 * 1024 * 1024);
  const { rules } = followers as unknown as { readonly rules: { policy: unknown } };
  rules.policy = openPolicy;
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
