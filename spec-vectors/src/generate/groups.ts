/** Cases of the formats that need a group, from groups of ts-mls. */
import { createApplicationMessage, createCommit, createProposal, encode, keyPackageEncoder } from "ts-mls";
import type {
  MessageProtectionCase,
  PassiveClientCase,
  TranscriptHashesCase,
  WelcomeCase,
} from "../formats.ts";
import { hex } from "./derivations.ts";
import {
  addProposal,
  type CommitResult,
  encodeMessage,
  type GeneratedKeyPackage,
  GroupDriver,
  isKnownJoinFault,
  keyPackageMessage,
  removeProposal,
} from "./group-driver.ts";
import { uint, vector } from "./reference.ts";
import { concat, referenceSuite, seededRandom, suiteIds } from "./suites.ts";

export function welcomes(): Promise<WelcomeCase[]> {
  return Promise.all(
    suiteIds.map(async (suite) => {
      const group = await GroupDriver.create(suite, `welcome/${suite}`, "alice");
      const { welcome, generated } = await group.add("alice", "bob", { ratchetTreeExtension: true });
      const signer = group.state("alice").ratchetTree[0];
      if (signer?.nodeType !== 1) throw new Error("leaf 0 is blank");
      return {
        cipher_suite: suite,
        init_priv: hex(generated.privatePackage.initPrivateKey),
        signer_pub: hex(signer.leaf.signaturePublicKey),
        key_package: hex(keyPackageMessage(generated)),
        welcome: hex(encodeMessage(welcome)),
      };
    }),
  );
}

/** Commit with one Add by value and no path: the only kind of which ts-mls makes the same bytes twice. */
function encodeAddCommit(added: GeneratedKeyPackage): Uint8Array {
  const byValue = concat(uint(1, 1), uint(1, 2), encode(keyPackageEncoder, added.publicPackage));
  return concat(vector(byValue), uint(0, 1));
}

export function messageProtection(): Promise<MessageProtectionCase[]> {
  return Promise.all(suiteIds.map(protectionOf));
}

async function protectionOf(suite: number): Promise<MessageProtectionCase> {
  const group = await GroupDriver.create(suite, `message-protection/${suite}`, "alice");
  const { generated } = await group.add("alice", "bob");
  const { context } = group;
  const state = group.state("bob");
  const [encryptionSecret, ...others] = Object.values(state.secretTree.intermediateNodes);
  if (encryptionSecret === undefined || others.length > 0) throw new Error("the secret tree was used");
  const encryption = hex(encryptionSecret);
  const proposal = removeProposal(0);
  const added = await group.keyPackage("carol");
  const extraProposals = [addProposal(added)];
  const application = group.random(50);
  const proposed = (wireAsPublicMessage: boolean) =>
    createProposal({ context, state, proposal, wireAsPublicMessage });
  const committed = (wireAsPublicMessage: boolean) =>
    createCommit({ context, state, extraProposals, wireAsPublicMessage });
  const sent = await createApplicationMessage({ context, state, message: application });
  return {
    cipher_suite: suite,
    group_id: hex(group.groupId),
    epoch: Number(state.groupContext.epoch),
    tree_hash: hex(state.groupContext.treeHash),
    confirmed_transcript_hash: hex(state.groupContext.confirmedTranscriptHash),
    signature_priv: hex(state.signaturePrivateKey),
    signature_pub: hex(generated.publicPackage.leafNode.signaturePublicKey),
    encryption_secret: encryption,
    sender_data_secret: hex(state.keySchedule.senderDataSecret),
    membership_key: hex(state.keySchedule.membershipKey),
    proposal: hex(concat(uint(3, 2), uint(0, 4))),
    proposal_priv: hex(encodeMessage((await proposed(false)).message)),
    proposal_pub: hex(encodeMessage((await proposed(true)).message)),
    commit: hex(encodeAddCommit(added)),
    commit_priv: hex(encodeMessage((await committed(false)).commit)),
    commit_pub: hex(encodeMessage((await committed(true)).commit)),
    application: hex(application),
    application_priv: hex(encodeMessage(sent.message)),
  };
}

export function transcriptHashes(): Promise<TranscriptHashesCase[]> {
  return Promise.all(suiteIds.map(transcriptOf));
}

async function transcriptOf(suite: number): Promise<TranscriptHashesCase> {
  const reference = referenceSuite(suite, seededRandom("transcript-hashes"));
  const group = await GroupDriver.create(suite, `transcript-hashes/${suite}`, "alice");
  await group.add("alice", "bob");
  const before = group.state("bob");
  const { commit } = await group.commit("bob", { wireAsPublicMessage: true });
  const after = group.state("bob");
  // An MLSMessage of a member is version, wire format, FramedContent, signature, tag, membership tag:
  // AuthenticatedContent begins with the wire format and has no membership tag.
  const membershipTag = vector(new Uint8Array(reference.hashLength)).length;
  const interim = (confirmed: Uint8Array, tag: Uint8Array) => reference.hash(concat(confirmed, vector(tag)));
  const confirmed = after.groupContext.confirmedTranscriptHash;
  return {
    cipher_suite: suite,
    confirmation_key: hex(after.keySchedule.confirmationKey),
    authenticated_content: hex(commit.subarray(2, commit.length - membershipTag)),
    interim_transcript_hash_before: hex(
      interim(before.groupContext.confirmedTranscriptHash, before.confirmationTag),
    ),
    confirmed_transcript_hash_after: hex(confirmed),
    interim_transcript_hash_after: hex(interim(confirmed, after.confirmationTag)),
  };
}

type PassiveStart = Omit<PassiveClientCase, "epochs">;

/** `passive` is added by alice and joins; what it needs to do so is recorded. */
async function passiveStart(
  group: GroupDriver,
  treeInWelcome: boolean,
  withPsk: boolean,
): Promise<PassiveStart> {
  const psk = withPsk ? group.addExternalPsk() : undefined;
  const generated = await group.keyPackage("passive");
  const extraProposals = [addProposal(generated), ...(psk === undefined ? [] : [group.pskProposal(psk.id)])];
  const { welcome, epochAuthenticator } = await group.commit("alice", {
    extraProposals,
    ratchetTreeExtension: treeInWelcome,
  });
  await group.join("passive", generated, welcome!, "alice");
  return {
    cipher_suite: group.context.cipherSuite.id,
    external_psks: psk === undefined ? [] : [{ psk_id: hex(psk.id), psk: hex(psk.psk) }],
    key_package: hex(keyPackageMessage(generated)),
    signature_priv: hex(generated.privatePackage.signaturePrivateKey),
    encryption_priv: hex(generated.privatePackage.hpkePrivateKey),
    init_priv: hex(generated.privatePackage.initPrivateKey),
    welcome: hex(encodeMessage(welcome!)),
    ratchet_tree: treeInWelcome ? null : hex(await group.encodedTree("alice")),
    initial_epoch_authenticator: hex(epochAuthenticator),
  };
}

export async function passiveWelcomes(): Promise<PassiveClientCase[]> {
  const cases: PassiveClientCase[] = [];
  for (const suite of suiteIds) {
    for (const [treeInWelcome, withPsk] of [
      [true, true],
      [false, false],
    ] as const) {
      const group = await GroupDriver.create(suite, `passive-welcome/${suite}/${treeInWelcome}`, "alice");
      if (!treeInWelcome) {
        await group.add("alice", "bob");
        await group.commit("bob");
      }
      cases.push({ ...(await passiveStart(group, treeInWelcome, withPsk)), epochs: [] });
    }
  }
  return cases;
}

type Epoch = PassiveClientCase["epochs"][number];
const epochOf = (result: CommitResult, proposals: readonly Uint8Array[] = []): Epoch => ({
  proposals: proposals.map(hex),
  commit: hex(result.commit),
  epoch_authenticator: hex(result.epochAuthenticator),
});

/** The added member takes part from now on, unless its own ts-mls refuses the valid tree. */
async function joinUnlessRefused(
  group: GroupDriver,
  name: string,
  generated: GeneratedKeyPackage,
  result: CommitResult,
): Promise<void> {
  try {
    await group.join(name, generated, result.welcome!, "alice");
  } catch (error) {
    if (!isKnownJoinFault(error)) throw error;
  }
}

/** The steps that a passive client follows; each returns one epoch. */
const steps: Readonly<Record<string, (group: GroupDriver, serial: number) => Promise<Epoch>>> = {
  "an external commit": async (group, serial) =>
    epochOf(await group.externalJoin(`external-${serial}`, "alice")),
  "a member that comes back": async (group) => {
    const able = [...group.states.keys()].filter((name) => name.includes("-"));
    return epochOf(await group.externalJoin(able[able.length >> 1]!, "bob"));
  },
  "a commit with a path": async (group, serial) =>
    epochOf(
      await group.commit(serial % 2 === 0 ? "bob" : "alice", { wireAsPublicMessage: serial % 3 === 0 }),
    ),
  "an add by value": async (group, serial) => {
    const { result, generated } = await group.commitAdd("alice", `added-${serial}`);
    await joinUnlessRefused(group, `added-${serial}`, generated, result);
    return epochOf(result);
  },
  "an external PSK": async (group) => {
    const [id] = Object.keys(group.context.externalPsks!);
    const proposal = group.pskProposal(Uint8Array.from(Buffer.from(id!, "base64")));
    return epochOf(await group.commit("bob", { extraProposals: [proposal] }));
  },
  "an add by reference": async (group, serial) => {
    const generated = await group.keyPackage(`proposed-${serial}`);
    const proposal = await group.propose("alice", addProposal(generated), serial % 2 === 0);
    const result = await group.commit("bob");
    await joinUnlessRefused(group, `proposed-${serial}`, generated, result);
    return epochOf(result, [proposal]);
  },
};

async function follow(suite: number, seed: string, names: readonly string[]): Promise<PassiveClientCase> {
  const group = await GroupDriver.create(suite, `${seed}/${suite}`, "alice");
  await group.add("alice", "bob");
  const start = await passiveStart(group, suite % 2 === 0, true);
  const epochs: Epoch[] = [];
  for (const [serial, name] of names.entries()) {
    try {
      epochs.push(await steps[name]!(group, serial));
    } catch (error) {
      if (!isKnownJoinFault(error)) throw error;
    }
  }
  return { ...start, epochs };
}

export async function passiveCommits(): Promise<PassiveClientCase[]> {
  const names = Object.keys(steps);
  const cases: PassiveClientCase[] = [];
  for (const suite of [1, 3, 4, 5, 7]) cases.push(await follow(suite, "passive-commit", names));
  if (cases.some((each) => each.epochs.length < names.length)) throw new Error("a step was refused");
  return cases;
}

export async function passiveRandom(): Promise<PassiveClientCase[]> {
  const random = seededRandom("passive-random");
  const choices = Object.keys(steps);
  // A member that can come back must have been added first.
  const names = ["an add by value"];
  while (names.length < 16) names.push(choices[random(1)[0]! % choices.length]!);
  return [await follow(1, "passive-random", names)];
}
