import { SenderCertificate, SessionRecord } from "@signalapp/libsignal-client";
import { expect, test } from "vitest";
import { protocolAddress } from "../../src/address.ts";
import {
  ContentHint,
  groupDecrypt,
  groupEncrypt,
  processSenderKeyDistributionMessage,
  SealedSenderMultiRecipientMessage,
  SenderKeyDistributionMessage,
  type SenderKeyRecord,
  type SenderKeyStore,
  sealedSenderMultiRecipientEncrypt,
  UnidentifiedSenderMessageContent,
} from "../../src/bench/index.ts";
import { LibsignalStores } from "../../src/libsignal-stores.ts";
import { Overlay, rowsOf } from "../../src/overlay.ts";
import { requireOwnDevice } from "../../src/own-identity.ts";
import { Peer, World } from "../support/peers.ts";

const DISTRIBUTION = "d1d1d1d1-7000-11eb-b32a-33b8a8a487a6";

function memorySenderKeys(): SenderKeyStore {
  const records = new Map<string, SenderKeyRecord>();
  return {
    saveSenderKey: async (sender, id, record) => void records.set(`${sender} ${id}`, record),
    getSenderKey: async (sender, id) => records.get(`${sender} ${id}`) ?? null,
  };
}

test("what the benchmark compares with: one sender-key ciphertext, sealed once for three devices", async () => {
  const world = new World();
  const alice = await Peer.create(world);
  const members = [await Peer.create(world), await Peer.create(world), await Peer.create(world)];
  await alice.meet(...members);
  const sender = protocolAddress(alice.address);
  const [ours, theirs] = [memorySenderKeys(), memorySenderKeys()];
  const distribution = await SenderKeyDistributionMessage.create(sender, DISTRIBUTION, ours);
  await processSenderKeyDistributionMessage(sender, distribution, theirs);
  const message = await groupEncrypt(sender, DISTRIBUTION, ours, new Uint8Array([1, 2, 3]));

  const certificate = SenderCertificate.deserialize(world.certificate(alice));
  const content = UnidentifiedSenderMessageContent.new(message, certificate, ContentHint.Default, null);
  const overlay = new Overlay(rowsOf(alice.store), () => false);
  const stores = new LibsignalStores(overlay, requireOwnDevice(overlay));
  stores.sessions.getExistingSessions = async () =>
    members.map((member) => SessionRecord.deserialize(alice.store.read("session", member.key)!));
  const sealed = await sealedSenderMultiRecipientEncrypt({
    content,
    recipients: members.map((member) => protocolAddress(member.address)),
    identityStore: stores.identities,
    sessionStore: stores.sessions,
  });
  const parsed = new SealedSenderMultiRecipientMessage(sealed);
  expect(Object.keys(parsed.recipientsByServiceIdString())).toHaveLength(3);
  expect(await groupDecrypt(sender, theirs, message.serialize())).toEqual(new Uint8Array([1, 2, 3]));
  console.log(`sealed once for 3 devices: ${sealed.length} bytes`);
});
