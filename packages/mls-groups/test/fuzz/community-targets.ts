import { type Bytes, decodeWhole, encode, RejectionError, UsageError } from "@murmuration/base";
import {
  BanList,
  checkKeyPackage,
  communityContextOf,
  createJoinTicket,
  decodeCommunityContext,
  decodeJoinTicket,
  decodeMemberCredential,
  deviceOf,
  type Extension,
  encodeCommunityContext,
  encodeJoinTicket,
  encodeMlsMessage,
  groupInfoSummary,
  type KeyPackage,
  nativeCrypto,
  verifyMemberCredential,
} from "../../src/index.ts";
import { readCommit, writeCommit } from "../../src/structs/commit.ts";
import {
  byValue,
  commitOf,
  created,
  editedExternalCommit,
  frameCommit,
} from "../adversary/wrong-messages.ts";
import { contextWith, type Device, idOf, StandInIdentities } from "../community-kit.ts";
import { bans, World } from "../community-world.ts";
import { seededRandom } from "../seeded.ts";
import type { Target } from "./targets.ts";

const refusal = (error: unknown): boolean => error instanceof RejectionError;

/** What no joiner may say is not signed to begin with: that counts like a refusal by whoever would read it. */
function signedOrRefused(sign: () => Bytes): Bytes {
  try {
    return sign();
  } catch (error) {
    if (error instanceof UsageError && error.code === "mls/framing-sender-and-content") {
      throw new RejectionError("fuzz/not-signed");
    }
    throw error;
  }
}

/** The decoders of communities, and commits that a member signed, given to a follower with the policy of a community. */
export function communityTargets(seed: number, deep: number): Target[] {
  const crypto = nativeCrypto(1, { random: seededRandom(`fuzz communities ${seed}`) });
  const { publicKey, privateKey: linkSeed } = crypto.generateSignatureKeyPair();
  const linkId = idOf("summer");
  const links = [{ linkId, publicKey, maxUses: 3, approval: false, expiresAtMs: 0 }];
  const world = new World({ fields: { links }, crypto });
  const joiner = world.outsider({ account: "nina" });
  const { publicKey: signatureKey } = joiner.identity.signatureKeys;
  const use = { groupId: idOf("a community"), linkId, signatureKey };
  const ticket = encodeJoinTicket(createJoinTicket(crypto, { ...use, linkSeed }));
  const bundle = joiner.keyPackage();
  const keyPackage = encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage: bundle.keyPackage });
  const olga = world.device("olga");
  const target = (name: string, corpus: readonly Uint8Array[], run: (input: Uint8Array) => void): Target => ({
    name,
    corpus,
    run,
    weight: 1,
    expects: refusal,
  });
  const { credential } = joiner.identity;
  if (credential.kind !== "basic") throw new Error(credential.kind);
  const expiring = { ...world.context, links: links.map((link) => ({ ...link, expiresAtMs: 1 })) };
  const contexts = [contextWith({ owners: ["olga"] }), world.context, expiring].map(encodeCommunityContext);
  return [
    target("decode MemberCredential", [credential.identity], (identity) => {
      const basic = { kind: "basic", identity } as const;
      deviceOf(basic);
      decodeMemberCredential(basic);
      verifyMemberCredential(new StandInIdentities(), basic, signatureKey);
    }),
    target("decode CommunityContext", contexts, (input) => {
      const context = decodeCommunityContext(input);
      // What was accepted has one encoding.
      const again = encodeCommunityContext(context);
      if (again.length !== input.length || again.some((byte, i) => byte !== input[i])) {
        throw new Error("a second encoding");
      }
    }),
    target("decode BanList", [bans("trudy", "mallory").encode()], (input) => {
      const list = BanList.decode(input);
      if (list.encode().length !== input.length) throw new Error("a second encoding");
    }),
    target("decode JoinTicket", [ticket.data], decodeJoinTicket),
    target("check a KeyPackage", [keyPackage], (input) => checkKeyPackage(crypto, input, 1n)),
    target("summarize a GroupInfo", [olga.group.groupInfo()], (input) => {
      communityContextOf(groupInfoSummary(input).extensions);
    }),
    ...followTargets(world, joiner, deep, [ticket], bundle.keyPackage),
  ];
}

function followTargets(
  world: World,
  joiner: Device,
  weight: number,
  extensions: readonly Extension[],
  keyPackage: KeyPackage,
): Target[] {
  const olga = world.device("olga");
  const proposals = [
    [],
    [byValue(olga, { kind: "add", keyPackage })],
    [byValue(olga, { kind: "remove", removed: world.leaf("max") })],
    [byValue(olga, world.change({ addBy: "owner", slowModeSeconds: 30 }))],
  ];
  const commits = proposals.map((list) => encode(commitOf(created(olga, { proposals: list })), writeCommit));
  const external = world.join(joiner, extensions);
  const joins: Bytes[] = [];
  editedExternalCommit(joiner, olga, external, (commit) => {
    joins.push(encode(commit, writeCommit));
    return commit;
  });
  const follow = (message: Uint8Array): void => void world.follower.receive(message);
  const read = (input: Uint8Array) => decodeWhole(input, (reader) => readCommit(reader));
  return [
    {
      name: "follow a signed commit to a community",
      corpus: commits,
      run: (input) => follow(frameCommit(olga, read(input))),
      weight,
      expects: refusal,
    },
    {
      name: "follow a signed external commit to a community",
      corpus: joins,
      run: (input) =>
        follow(signedOrRefused(() => editedExternalCommit(joiner, olga, external, () => read(input)))),
      weight,
      expects: refusal,
    },
  ];
}
