import { formatId } from "@murmuration/base";
import { expect, test } from "vitest";
import { ParsedLists } from "../../src/parsed-lists.ts";
import { Peer, World } from "../support/peers.ts";

const listOf = (peer: Peer) => peer.engine.local()!.deviceList;

test("a list is parsed once for as long as the row holds the same bytes", async () => {
  const phone = await Peer.create(new World());
  const name = formatId(phone.account);
  const lists = new ParsedLists();
  const first = lists.parse(name, listOf(phone));
  expect(first.version).toBe(1);
  expect([...first.devices.keys()]).toEqual([1]);
  expect(lists.parse(name, listOf(phone).slice())).toBe(first);
});

test("another row is parsed anew: a removed device is not remembered", async () => {
  const phone = await Peer.create(new World());
  const tablet = await phone.link();
  const name = formatId(phone.account);
  const lists = new ParsedLists();
  expect([...lists.parse(name, listOf(phone)).devices.keys()]).toEqual([1, 2]);
  await phone.engine.removeDevice(tablet.address.deviceId, phone.store.persist());
  const after = lists.parse(name, listOf(phone));
  expect(after.version).toBe(3);
  expect([...after.devices.keys()]).toEqual([1]);
});

test("bytes that the caller changes afterwards do not pass for those that were parsed", async () => {
  const [alice, bob] = [await Peer.create(new World()), await Peer.create(new World())];
  const lists = new ParsedLists();
  const mine = listOf(alice).slice();
  const parsed = lists.parse("account", mine);
  mine.set(listOf(bob));
  const again = lists.parse("account", mine);
  expect(again).not.toBe(parsed);
  expect([...again.devices.values()][0]!.address.accountId).toEqual(bob.account);
});
