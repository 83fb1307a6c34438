import { RejectionError } from "@murmuration/base";
import { communityRules } from "./community/rules.ts";

/**
 * Every validation rule of this engine, with the section of RFC 9420 (or the draft) that states it. A refusal
 * carries the code `mls/<rule id>`, and that of a community's rule its id alone. Each id stands in the title of at least one test that fails without the
 * rule; the mutant runner disables the rules one by one and requires that test to fail.
 */
export const rules = {
  // LeafNode: 7.2 (contents), 7.3 (validation), 13.4 (extensions).
  "leaf-node/signature": "7.3",
  "leaf-node/source": "7.3",
  "leaf-node/lifetime": "7.3",
  "leaf-node/protocol-version-supported": "7.3",
  "leaf-node/required-capabilities": "7.3",
  "leaf-node/group-extensions-supported": "13.4",
  "leaf-node/own-credential-type-listed": "7.2",
  "leaf-node/credential-supported-by-members": "7.3",
  "leaf-node/credentials-in-use-supported": "7.3",
  "leaf-node/own-extensions-listed": "7.3",
  "leaf-node/extensions-distinct": "13.4",
  "leaf-node/encryption-key-valid": "5.1.1",
  "leaf-node/encryption-key-unique": "7.3",
  "leaf-node/encryption-key-changed": "7.3",
  "leaf-node/signature-key-unique": "7.3",

  // Every other list of extensions: 13.4.
  "extensions/distinct": "13.4",

  // The ratchet tree as a whole: 7.1, 7.9.2, 12.4.3.1 (joining), 12.4.3.3 (ratchet_tree extension).
  "ratchet-tree/last-node-not-blank": "12.4.3.3",
  "ratchet-tree/node-type-by-position": "12.4.3.3",
  "ratchet-tree/size-limit": "12.4.3.3",
  "ratchet-tree/encryption-key-valid": "5.1.1",
  "ratchet-tree/encryption-key-unique": "12.4.3.1",
  "ratchet-tree/unmerged-leaves-sorted": "7.1",
  "ratchet-tree/unmerged-leaf-is-descendant": "12.4.3.1",
  "ratchet-tree/unmerged-leaf-not-blank": "12.4.3.1",
  "ratchet-tree/unmerged-leaf-in-intermediate-nodes": "12.4.3.1",
  "ratchet-tree/parent-hash": "7.9.2",
  "ratchet-tree/leaf-not-blank": "12.1",

  // UpdatePath: 7.5, 7.6, 12.4.2.
  "update-path/length": "7.5",
  "update-path/ciphertext-count": "7.6",
  "update-path/encryption-key-valid": "5.1.1",
  "update-path/encryption-keys-new": "12.4.2",
  "update-path/encryption-keys-distinct": "12.4.2",
  "update-path/leaf-encryption-key-changed": "12.4.2",
  "update-path/parent-hash": "7.5",
  "update-path/key-matches-path-secret": "7.5",

  // Joining with a path secret: 12.4.3.1.
  "welcome/path-secret-node-not-blank": "12.4.3.1",
  "welcome/path-secret-matches-key": "12.4.3.1",
  "welcome/direct-path-keys-known": "12.4.3.1",

  // KeyPackage: 10.1.
  "key-package/cipher-suite": "10.1",
  "key-package/leaf-source": "7.3",
  "key-package/init-key-valid": "5.1.1",
  "key-package/init-key-differs": "10.1",
  "key-package/signature": "10.1",

  // What the application's Authentication Service says: 5.3.1, 7.3.
  "leaf-node/credential-valid": "5.3.1",
  "leaf-node/credential-successor": "7.3",
  "external-senders/credential-valid": "5.3.1",

  // Single proposals: 12.1.
  "psk/count": "8.4",
  "psk/nonce-length": "12.1.4",
  "psk/no-reinit-usage": "12.1.4",
  "psk/no-branch-usage": "12.1.4",
  "reinit/version": "12.1.5",

  // Lists of proposals: 12.2; SelfRemove: draft-ietf-mls-extensions.
  "proposal-list/one-group-context-extensions": "12.2",
  "proposal-list/reinit-alone": "12.2",
  "proposal-list/no-external-init": "12.2",
  "proposal-list/no-own-update": "12.2",
  "proposal-list/no-own-self-remove": "SelfRemove",
  "proposal-list/self-remove-by-reference": "SelfRemove",
  "proposal-list/one-change-per-leaf": "12.2",
  "proposal-list/committer-not-removed": "12.2",
  "proposal-list/distinct-psks": "12.2",
  "proposal-list/types-supported": "12.2",
  "proposal-list/distinct-adds": "12.2",
  "proposal-list/client-not-a-member": "12.2",
  "external-commit/one-external-init": "12.2",
  "external-commit/at-most-one-remove": "12.2",
  "external-commit/only-allowed-types": "12.2",
  "external-commit/no-references": "12.4.3.2",
  "external-commit/remove-own-leaf": "12.2",

  // Commits: 12.4, 12.4.2, 6.1.
  "commit/path-required": "12.4",
  "commit/confirmation-tag": "6.1",
  "message/epoch": "12.4.2",
  "commit/epoch-left": "8.1",
  "message/group": "6",
  "message/group-not-reinitialized": "12.4.2",
  "message/sender-not-removed-before": "14",
  "framing/sender-is-member": "6.3.2",
  "proposal/external-sender-known": "12.1.8",

  // Joining: 11.2, 11.3, 12.4.3.
  "welcome/cipher-suite": "12.4.3.1",
  "welcome/key-package-listed": "12.4.3.1",
  "welcome/leaf-in-tree": "12.4.3.1",
  "welcome/single-subgroup-psk": "12.4.3.1",
  "welcome/subgroup-epoch": "11.2",
  "welcome/reinit-matches": "11.2",
  "welcome/reinit-members": "11.2",
  "welcome/branch-matches": "11.3",
  "welcome/branch-members": "11.3",
  "group-info/signer-not-blank": "12.4.3.1",
  "group-info/signature": "12.4.3",
  "group-info/tree-hash": "12.4.3.1",
  "group-info/cipher-suite": "12.4.3.1",
  "group-info/confirmation-tag": "12.4.3.1",
  "group-info/external-pub": "12.4.3.2",
  "group-info/signed-by-committer": "12.4.3",
  "group-info/follows-commit": "12.4.1",

  // Framing: 6 and 6.1 (who may send what, signature), 6.2, 6.3.1, 12.1.8 (external senders).
  "framing/application-data-encrypted": "6",
  "framing/external-sends-proposal": "6.1",
  "framing/external-proposal-type": "12.1.8",
  "framing/new-member-proposal-sends-add": "6.1",
  "framing/new-member-commit-sends-commit": "6.1",
  "framing/new-member-commit-has-path": "12.4.3.2",
  "framing/membership-tag": "6.2",
  "framing/signature": "6.1",
  "framing/padding-is-zero": "6.3.1",

  ...communityRules,
} as const;

/** The id of a validation rule. */
export type RuleId = keyof typeof rules;

const disabledRules = new Set<RuleId>();

/** The code of a refusal by this rule. */
function codeOfRule(rule: RuleId): string {
  return rule in communityRules ? rule : `mls/${rule}`;
}

/**
 * Throws a RejectionError with the rule's code unless the condition holds. The one place through which every
 * validation rule refuses.
 */
export function check(rule: RuleId, condition: boolean): void {
  if (!condition && !disabledRules.has(rule)) throw new RejectionError(codeOfRule(rule));
}

/**
 * For the mutant runner and its tests only: switches one rule off in this process and returns the function
 * that switches it on again. No public entry point exports it.
 */
export function disableRule(rule: RuleId): () => void {
  // A rule that was off already stays off: the mutant runner's outer switch wins over a test's own.
  const wasOn = !disabledRules.has(rule);
  disabledRules.add(rule);
  return () => {
    if (wasOn) disabledRules.delete(rule);
  };
}
