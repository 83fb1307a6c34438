import { deviceId, formatId, RejectionError, UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { Peer, World } from "../support/peers.ts";

/** Alice with a phone and a tablet, Bob who talks with both. */
async function threeDevices() {
  const world = new World();
  const phone = await Peer.create(world);
  const tablet = await phone.link();
  world.uploadList(phone);
  const bob = await Peer.create(world);
  await bob.meet(phone, tablet);
  const hello = await bob.send("hello", [phone, tablet]);
  for (const [i, device] of [phone, tablet].entries()) {
    await device.read(hello.envelopes[i]!);
    await bob.read((await device.send("yes", [bob])).envelopes[0]!);
  }
  return { world, phone, tablet, bob };
}

describe("gotcha 9: peers accept only devices on the newest list they have seen", () => {
  test("content goes to several devices of one account, and to one's own other devices", async () => {
    const { phone, tablet, bob } = await threeDevices();
    expect(bob.engine.devicesOf(phone.account)).toEqual([phone.address, tablet.address]);
    const sent = await bob.send("to both", [phone, tablet]);
    expect(await phone.read(sent.envelopes[0]!)).toBe("to both");
    expect(await tablet.read(sent.envelopes[1]!)).toBe("to both");

    await phone.fetchList(phone.account);
    expect(phone.engine.devicesOf(phone.account)).toEqual([tablet.address]);
    await phone.meet(tablet);
    const sync = await phone.send("what I sent elsewhere", [tablet]);
    expect(await tablet.read(sync.envelopes[0]!)).toBe("what I sent elsewhere");
    await expect(phone.send("to myself", [phone])).rejects.toThrow("pairwise/recipient-is-self");
  });

  test("what a removed device sends is refused, and nothing is sent to it, once the newer list was seen", async () => {
    const { world, phone, tablet, bob } = await threeDevices();
    const late = await tablet.send("sent before, arrives after", [bob]);
    await phone.engine.removeDevice(tablet.address.deviceId, phone.store.persist());
    world.uploadList(phone);

    // Bob was offline all the while: he fetches the newest list before he reads his mailbox.
    const outcome = await bob.fetchList(phone.account);
    expect(outcome).toMatchObject({ kind: "accepted", removed: [tablet.address] });
    expect(bob.store.keys("session")).toHaveLength(1);
    const refused = await bob.receive(late.envelopes[0]!);
    expect(refused).toMatchObject({ kind: "rejected", code: "pairwise/device-not-listed" });
    const stillSent = await tablet.send("and this one", [bob]);
    expect(await bob.receive(stillSent.envelopes[0]!)).toMatchObject({ code: "pairwise/device-not-listed" });

    const request = { recipients: [tablet.address], body: new Uint8Array(1), mode: "sealed" } as const;
    const notReady = await bob.engine.encrypt(request, bob.store.persist());
    expect(notReady).toMatchObject({ kind: "not-ready", deviceListsNeeded: [phone.account] });
    const [bundle] = await bob.engine.processBundles([world.bundle(tablet.address)], bob.store.persist());
    expect(bundle).toEqual({ kind: "device-list-needed", address: tablet.address });
    expect(await phone.read((await bob.send("only you", [phone])).envelopes[0]!)).toBe("only you");
  });

  test("a service that shows the old list again is refused, and the removed device stays out", async () => {
    const { world, phone, tablet, bob } = await threeDevices();
    const oldList = world.lists.get(formatId(phone.account))!;
    await phone.engine.removeDevice(tablet.address.deviceId, phone.store.persist());
    world.uploadList(phone);
    await bob.fetchList(phone.account);
    const outcome = await bob.engine.acceptDeviceList(phone.account, oldList, bob.store.persist());
    expect(outcome).toEqual({ kind: "rejected", code: "device-list/rolled-back" });
    expect(bob.engine.devicesOf(phone.account)).toEqual([phone.address]);
  });

  test("a device id is not given out twice, and the sixth device is refused", async () => {
    const { world, phone, tablet } = await threeDevices();
    await phone.engine.removeDevice(tablet.address.deviceId, phone.store.persist());
    world.uploadList(phone);
    const ids: number[] = [];
    for (let i = 0; i < 4; i++) {
      ids.push((await phone.link()).address.deviceId);
      world.uploadList(phone);
    }
    expect(ids).toEqual([3, 4, 5, 6]);
    await expect(phone.link()).rejects.toThrow("pairwise/too-many-devices");
  });

  test("a linked device cannot sign lists, the signer cannot remove itself, and strangers cannot be removed", async () => {
    const { phone, tablet } = await threeDevices();
    const byTablet = tablet.engine.removeDevice(phone.address.deviceId, tablet.store.persist());
    await expect(byTablet).rejects.toThrow("pairwise/not-the-list-signer");
    const itself = phone.engine.removeDevice(phone.address.deviceId, phone.store.persist());
    await expect(itself).rejects.toThrow("pairwise/own-device-stays");
    const stranger = phone.engine.removeDevice(deviceId(9), phone.store.persist());
    await expect(stranger).rejects.toThrow(UsageError);
  });

  test("a new device adopts only a list that the account key it scanned has signed, with itself on it", async () => {
    const world = new World();
    const phone = await Peer.create(world);
    const { address, accountIdentityKey, deviceList } = phone.engine.local()!;
    const device = Peer.blank(world);
    const account = { accountId: address.accountId, accountIdentityKey };
    await device.engine.generateLinkRequest(account, device.store.persist());
    const without = device.engine.adoptLink(deviceList, device.store.persist());
    await expect(without).rejects.toThrow("device-list/device-missing");
    const impostor = Peer.blank(world);
    await impostor.engine.generateAccount(address.accountId, impostor.store.persist());
    const forged = device.engine.adoptLink(impostor.engine.local()!.deviceList, device.store.persist());
    await expect(forged).rejects.toThrow(RejectionError);
    expect(device.engine.local()).toBeUndefined();
    await expect(device.send("too early", [phone])).rejects.toThrow("pairwise/not-registered");
  });

  test("sender and recipient tell each other, inside the session, which list versions they know", async () => {
    const { world, phone, tablet, bob } = await threeDevices();
    await phone.link();
    world.uploadList(phone);
    const fromPhone = await phone.send("I have a new device", [bob]);
    expect(await bob.receive(fromPhone.envelopes[0]!)).toMatchObject({ senderListNewer: true });
    const fromBob = await bob.send("which I do not know yet", [phone]);
    expect(await phone.receive(fromBob.envelopes[0]!)).toMatchObject({ ownListOlderAtSender: true });
    await bob.fetchList(phone.account);
    const after = await bob.send("now I do", [phone]);
    expect(await phone.receive(after.envelopes[0]!)).toMatchObject({
      senderListNewer: false,
      ownListOlderAtSender: false,
    });
    expect(tablet.engine.deviceListOf(phone.account)?.version).toBe(2);
  });
});
