import type { VectorFormats } from "../formats.ts";
import type { VectorName } from "../manifest.ts";
import {
  cryptoBasics,
  deserialization,
  keySchedules,
  pskSecrets,
  secretTrees,
  treeMath,
} from "./derivations.ts";
import {
  messageProtection,
  passiveCommits,
  passiveRandom,
  passiveWelcomes,
  transcriptHashes,
  welcomes,
} from "./groups.ts";

import { messages } from "./messages.ts";
import { treeKem, treeOperations, treeValidation } from "./trees.ts";

type Generators = { readonly [N in VectorName]?: () => VectorFormats[N][] | Promise<VectorFormats[N][]> };

/** The known-answer files and what makes them. */
export const generators: Generators = {
  "crypto-basics": cryptoBasics,
  deserialization,
  "key-schedule": keySchedules,
  "message-protection": messageProtection,
  messages,
  "passive-client-handling-commit": passiveCommits,
  "passive-client-random": passiveRandom,
  "passive-client-welcome": passiveWelcomes,
  psk_secret: pskSecrets,
  "secret-tree": secretTrees,
  "transcript-hashes": transcriptHashes,
  "tree-math": treeMath,
  "tree-operations": treeOperations,
  "tree-validation": treeValidation,
  treekem: treeKem,
  welcome: welcomes,
};

/** One case a line: short in a diff, and readable by any JSON parser. */
export function fileText(cases: readonly unknown[]): string {
  return `[\n${cases.map((each) => JSON.stringify(each)).join(",\n")}\n]\n`;
}
