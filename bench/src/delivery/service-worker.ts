/** The delivery service in a process of its own, as an operator runs it but without rates: one client does the work of thousands. */
import { type AccountId, type Bytes, groupId } from "@murmuration/base";
import {
  createConfig,
  type DeliveryServiceConfig,
  type Replacements,
  startDeliveryService,
} from "@murmuration/delivery-service";
import { sha256 } from "@murmuration/delivery-service/bench";
import { type Limits, limits } from "@murmuration/wire";
import { accountAt, DEVICE_ID, REGISTRATION_ID } from "../fanout/accounts.ts";
import { serveRequests } from "../worker-link.ts";

export type Sockets = "ws" | "uws";

export interface ServiceTask {
  readonly directory: string;
  readonly engines: DeliveryServiceConfig["engines"];
  readonly sockets: Sockets;
}

/** A group as it is stored: made from a seed, not by a thousand commits. */
export interface StoredGroup {
  readonly groupId: Bytes;
  readonly epoch: number;
  readonly groupInfo: Bytes;
  readonly treeHash: Bytes;
  readonly ratchetTree: Bytes;
}

export interface AccountsTask {
  readonly seed: string;
  readonly first: number;
  readonly count: number;
}

type Stores = Parameters<NonNullable<Replacements["stores"]>>[0];

const FREE = { burst: 1e12, perMinute: 1e12 };
const RATES = Object.fromEntries(Object.keys(limits.rates).map((name) => [name, FREE])) as Limits["rates"];
const DAY_MS = 86_400_000;
const KEY_BYTES = 33;
const ACCOUNTS_AT_A_TIME = 500;

let service: Awaited<ReturnType<typeof startDeliveryService>>;
let stores: Stores;

async function start({
  directory,
  engines,
  sockets: asked,
}: ServiceTask): Promise<{ readonly port: number }> {
  let sockets = "ws";
  const silent = () => {};
  const info = (event: string, fields?: Readonly<Record<string, unknown>>): void => {
    if (event === "sockets") sockets = String(fields?.["implementation"]);
  };
  const config = createConfig({
    dataDirectory: directory,
    engines,
    sockets: asked,
    limits: { ...limits, rates: RATES },
  });
  service = await startDeliveryService(config, {
    log: { info, warn: silent, error: silent },
    stores: (opened) => {
      stores = opened;
      return opened;
    },
  });
  // Never the figures of one under the name of the other.
  if (sockets !== asked) throw new Error(`sockets are served by ${sockets}, not ${asked}`);
  return { port: service.port };
}

/** Accounts with one device and an empty mailbox each. */
async function accounts({ seed, first, count }: AccountsTask): Promise<void> {
  const openedAtMs = Date.now();
  const create = async (index: number): Promise<void> => {
    const { accountId, accessKey, token } = accountAt(seed, index);
    await stores.mailboxes.open({ accountId, deviceId: DEVICE_ID }, openedAtMs);
    await stores.accounts.create({
      accountId: accountId satisfies AccountId,
      accountIdentityKey: new Uint8Array(KEY_BYTES),
      accessKeyHash: sha256(accessKey),
      deviceList: { version: 1, bytes: new Uint8Array(200) },
      device: {
        deviceId: DEVICE_ID,
        registrationId: REGISTRATION_ID,
        identityKey: new Uint8Array(KEY_BYTES),
        tokenHash: sha256(token),
        lastSeenDay: Math.floor(openedAtMs / DAY_MS),
        hasKeys: true,
      },
    });
  };
  for (let next = first; next < first + count; next += ACCOUNTS_AT_A_TIME) {
    const batch = Math.min(ACCOUNTS_AT_A_TIME, first + count - next);
    await Promise.all(Array.from({ length: batch }, (_, i) => create(next + i)));
  }
}

serveRequests({
  start,
  accounts,
  async group(group: StoredGroup): Promise<void> {
    const { epoch, groupInfo, treeHash, ratchetTree: tree } = group;
    const day = Math.floor(Date.now() / DAY_MS);
    await stores.mlsGroups.create({ groupId: groupId(group.groupId), epoch, groupInfo, treeHash, tree, day });
  },
  /** Collects what is garbage; returns what is left, bytes. Needs --expose-gc. */
  async collect(): Promise<number> {
    for (let times = 0; times < 3; times++) {
      globalThis.gc?.();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    const { heapUsed, external } = process.memoryUsage();
    return heapUsed + external;
  },
  async end(): Promise<void> {
    await service.close();
    // Behind the answer; a CPU profile is written on the way out.
    setImmediate(() => process.exit(0));
  },
});
