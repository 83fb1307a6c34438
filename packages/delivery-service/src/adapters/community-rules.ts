import { type Bytes, equalBytes } from "@murmuration/base";
import { BanList, communityPolicy, type GroupPolicy } from "@murmuration/mls-groups/public-group";
import { verifyAlternateIdentity, verifyDeviceSignature } from "@murmuration/pairwise/server";

const NO_BYTES: Bytes = new Uint8Array(0);

/**
 * The policy that members run, for all groups of one thread, so that a credential which was verified is remembered in
 * all of them. Which ban lists are at hand depends on the group and on the commit: they are laid out for one look.
 */
export class CommunityRules {
  readonly policy: GroupPolicy;
  private lists: readonly BanList[] = [];

  constructor() {
    this.policy = communityPolicy({
      identity: { verifyAlternateIdentity, verifyDeviceSignature },
      banList: (hash) => this.lists.find((list) => equalBytes(list.hash(), hash)),
    });
  }

  /** Judges with these ban lists at hand. Throws RejectionError `community/ban-list-malformed`, and what `judge` throws. */
  withLists<T>(lists: readonly (BanList | undefined)[], judge: () => T): T {
    this.lists = lists.filter((list) => list !== undefined);
    try {
      return judge();
    } finally {
      this.lists = [];
    }
  }
}

/** A ban list as it is stored and sent; no bytes stand for the empty one. */
export function banListOf(bytes: Bytes | undefined): BanList {
  return BanList.decode(bytes ?? NO_BYTES);
}
