import { type Bytes, type DeviceAddress, type DeviceId, equalBytes } from "@murmuration/base";
import { type ProtocolAddress, PublicKey } from "@signalapp/libsignal-client";
import { protocolAddress } from "./address.ts";
import { decodeDeviceList } from "./device-list.ts";

/** A device of a peer as its account's list has it, in the form that libsignal takes. */
export interface ParsedDevice {
  readonly address: DeviceAddress;
  readonly protocolAddress: ProtocolAddress;
  readonly identityKey: PublicKey;
}

export interface ParsedList {
  readonly encoded: Bytes;
  readonly version: number;
  /** By rising device id. */
  readonly devices: ReadonlyMap<DeviceId, ParsedDevice>;
}

/** Accounts that are kept parsed, at about 2 KB each: some groups of the largest pairwise size. */
const MAX_ACCOUNTS = 2_048;

/**
 * Device lists as they were parsed last. A message to a large group needs each member's list again, and nearly
 * always it is the one of the message before. It decides nothing: the caller hands in the row as the store has
 * it now, and what was parsed counts only when it was made of the very same bytes.
 */
export class ParsedLists {
  private readonly byAccount = new Map<string, ParsedList>();

  /** O(length of the row) when it is known already. Throws like `decodeDeviceList`. */
  parse(account: string, encoded: Bytes): ParsedList {
    const known = this.byAccount.get(account);
    if (known !== undefined && equalBytes(known.encoded, encoded)) return known;
    const parsed = parseList(encoded);
    this.byAccount.delete(account);
    this.byAccount.set(account, parsed);
    if (this.byAccount.size > MAX_ACCOUNTS) this.byAccount.delete(this.byAccount.keys().next().value!);
    return parsed;
  }
}

function parseList(encoded: Bytes): ParsedList {
  const { accountId, version, devices } = decodeDeviceList(encoded);
  const parsed = new Map<DeviceId, ParsedDevice>();
  for (const { deviceId, identityKey } of devices) {
    const address = { accountId, deviceId };
    parsed.set(deviceId, {
      address,
      protocolAddress: protocolAddress(address),
      identityKey: PublicKey.deserialize(identityKey),
    });
  }
  // A copy: what the caller does with its bytes later must not make them look like these.
  return { encoded: new Uint8Array(encoded), version, devices: parsed };
}
