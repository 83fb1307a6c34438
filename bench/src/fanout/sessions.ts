/** The sender's sessions with everybody. Two processes make half of them each: they are measured by nobody. */
import type { Bytes } from "@murmuration/base";
import { KEMKeyPair, PublicKey } from "@murmuration/pairwise/bench";
import { accountAt } from "./accounts.ts";
import { TIMED_RECEIVERS } from "./protocols.ts";
import { type EstablishedPeer, establish, type ReceiverState, SignalDevice } from "./signal-device.ts";

/** As the client's engine does: what is never yielded puts the finalizers of native objects off. */
const SESSIONS_PER_YIELD = 8;
const SESSIONS_PER_NOTE = 250;

/** Accounts by their numbers, both ends included; number 0 sends. */
export interface AccountRange {
  readonly first: number;
  readonly last: number;
}

/** A session as it goes from the process that made it to the sender's. */
export interface MadeSession {
  readonly index: number;
  readonly identityKey: Bytes;
  readonly session: Bytes;
}

/** Asked of a process that is not the sender's. */
export interface SessionsTask {
  readonly seed: string;
  /** The sender's identity key pair. */
  readonly identity: Bytes;
  readonly range: AccountRange;
  readonly path: string;
}

/** The two halves; whoever is timed is in the first one. */
export function halvesOf(recipients: number): readonly [AccountRange, AccountRange] {
  const last = Math.min(recipients, Math.max(Math.ceil(recipients / 2), TIMED_RECEIVERS));
  return [
    { first: 1, last },
    { first: last + 1, last: recipients },
  ];
}

export async function makeSessions(
  sender: SignalDevice,
  seed: string,
  { first, last }: AccountRange,
  made: (last: number) => void = () => {},
): Promise<{ readonly peers: EstablishedPeer[]; readonly receivers: ReceiverState[] }> {
  const peers: EstablishedPeer[] = [];
  const receivers: ReceiverState[] = [];
  // One for all receivers: making it is no part of what is measured, and each signs it with its own identity.
  const kyber = KEMKeyPair.generate();
  for (let index = first; index <= last; index++) {
    const account = accountAt(seed, index);
    const { peer, receiver } = await establish(sender, account, kyber, index <= TIMED_RECEIVERS);
    peers.push(peer);
    if (receiver !== undefined) receivers.push(receiver);
    if (index % SESSIONS_PER_YIELD === 0) await new Promise((resolve) => setImmediate(resolve));
    if (index % SESSIONS_PER_NOTE === 0) made(index);
  }
  return { peers, receivers };
}

/** What another process has made becomes this device's. */
export async function takeSessions(
  sender: SignalDevice,
  seed: string,
  made: readonly MadeSession[],
): Promise<EstablishedPeer[]> {
  const peers: EstablishedPeer[] = [];
  for (const { identityKey: serialized, index, session } of made) {
    const account = accountAt(seed, index);
    const { address } = new SignalDevice(account, sender.identity);
    const identityKey = PublicKey.deserialize(serialized);
    await sender.identities.saveIdentity(address, identityKey);
    peers.push({ account, address, identityKey, session });
  }
  return peers;
}
