import { type AccountId, formatId, toBase64Url } from "@murmuration/base";

/** Names of outbox lanes. Messages of one lane leave in order; lanes do not wait for each other. */
export const lanes = {
  /** 1:1 messages to an account, and what only this account gets. */
  account: (account: AccountId): string => `account:${formatId(account)}`,
  group: (group: Uint8Array): string => `group:${toBase64Url(group)}`,
  /**
   * Steps of a move: what the members of a pairwise group have to hear although the service takes nothing any more that names
   * the group, and what some of them hear later than others. It goes out without a fence.
   */
  migration: (group: Uint8Array): string => `migration:${toBase64Url(group)}`,
  receipts: (account: AccountId): string => `receipts:${formatId(account)}`,
  /** Requests to send something again. */
  repair: (account: AccountId): string => `repair:${formatId(account)}`,
  /** Copies for the account's other devices. */
  own: "own",
};
