/**
 * A device's keys and state out of its own database, to be used without the client that keeps to the rules: what a
 * member can do who writes a program of its own.
 */
import { inflateRawSync } from "node:zlib";
import { type Bytes, type GroupId, parseGroupId, RejectionError } from "@murmuration/base";
import { connectTo, openSqlcipher, type Row } from "@murmuration/client-core";
import {
  type CryptoProvider,
  deviceOf,
  Group,
  type GroupConfig,
  joinGroupExternally,
  type LeafOptions,
  leafOfSignatureKey,
  type MemberIdentity,
  MemoryGroupStore,
  nativeCrypto,
  openPolicy,
  signForService,
} from "@murmuration/mls-groups";
import {
  type DeviceAuth,
  encodeLeafAccessTbs,
  GROUP_ACCESS_LABEL,
  type GroupInfoReply,
  routePath,
} from "@murmuration/wire";
import type { SimulatedDevice } from "../../src/index.ts";
import { RawConnection } from "./raw-connection.ts";

export const crypto: CryptoProvider = nativeCrypto(1);

const bytesIn = (row: Row | undefined, column: string): Bytes => new Uint8Array(row?.[column] as Bytes);

/** A crypto provider that does some things otherwise. */
export function bentCrypto(bend: (honest: CryptoProvider) => Partial<CryptoProvider>): CryptoProvider {
  const bent = bend(crypto);
  return new Proxy(crypto, {
    get(target, name) {
      if (name in bent) return bent[name as keyof CryptoProvider];
      const value = Reflect.get(target, name, target) as unknown;
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

export interface ExternalCommit {
  readonly commit: Bytes;
  readonly groupInfo: Bytes;
  readonly group: Group;
}

export class Outlaw {
  readonly identity: MemberIdentity;
  private readonly origin: string;
  /** The service that the device has pinned. */
  readonly trustRoot: Bytes;
  /** What the device says Hello with on its own connection. */
  readonly auth: DeviceAuth;
  private readonly stores = new Map<string, MemoryGroupStore>();
  private readonly cursors = new Map<string, number>();
  /** Of every KeyPackage that the device has published and not used. */
  readonly keyPackageKeys: readonly Bytes[];

  /** Copies what lies in the device's database now; the device may go on or not. */
  constructor(device: SimulatedDevice, origin: string) {
    this.origin = origin;
    const storage = openSqlcipher({ path: device.path, key: device.key });
    try {
      const meta = (key: string) =>
        bytesIn(storage.get("SELECT value FROM meta WHERE key = ?", [key]), "value");
      this.identity = {
        credential: { kind: "basic", identity: meta("mls-credential") },
        signatureKeys: {
          publicKey: meta("mls-signature-public"),
          privateKey: meta("mls-signature-private"),
        },
      };
      this.trustRoot = meta("trust-root");
      this.auth = { ...deviceOf(this.identity.credential), token: meta("token") };
      this.keyPackageKeys = storage
        .all("SELECT init_key, leaf_key FROM mls_key_package")
        .flatMap((row) => [bytesIn(row, "init_key"), bytesIn(row, "leaf_key")]);
      for (const row of storage.all("SELECT * FROM mls_group")) {
        const id = bytesIn(row, "id");
        const store = new MemoryGroupStore();
        const slot = row["slot"] as number;
        const rows = storage.all("SELECT key, value FROM mls_row WHERE group_id = ? AND slot = ?", [
          id,
          slot,
        ]);
        for (const entry of rows) store.rows.set(entry["key"] as string, bytesIn(entry, "value"));
        const key = Buffer.from(id).toString("base64url");
        this.stores.set(key, store);
        this.cursors.set(key, row["cursor"] as number);
      }
    } finally {
      storage.close();
    }
  }

  /** The rows of a group as the device had them. */
  storeOf(id: string): MemoryGroupStore {
    const store = this.stores.get(id);
    if (store === undefined) throw new Error("the device was not in this group");
    return store;
  }

  cursorOf(id: string): number {
    return this.cursors.get(id) ?? 0;
  }

  /** The group, under a policy that allows everything. */
  group(id: string, provider = crypto, config: Partial<GroupConfig> = { policy: openPolicy }): Group {
    return Group.load(provider, this.storeOf(id), config);
  }

  signAccess(
    connection: RawConnection,
    id: string,
    epoch: number,
    leafIndex: number,
    { key, service = this.trustRoot }: { readonly key?: Bytes; readonly service?: Bytes } = {},
  ): Bytes {
    const tbs = encodeLeafAccessTbs({
      service,
      challenge: connection.challenge,
      groupId: parseGroupId(id),
      epoch,
      leafIndex,
    });
    return signForService(crypto, key ?? this.identity.signatureKeys.privateKey, GROUP_ACCESS_LABEL, tbs);
  }

  accessFrame(connection: RawConnection, id: string, afterSequence?: number, service?: Bytes) {
    const group = this.group(id);
    const epoch = Number(group.epoch);
    return {
      kind: "groupAccess" as const,
      groupId: parseGroupId(id),
      epoch,
      leafIndex: group.ownLeaf,
      signature: this.signAccess(
        connection,
        id,
        epoch,
        group.ownLeaf,
        service === undefined ? {} : { service },
      ),
      marks: [],
      ...(afterSequence === undefined ? {} : { afterSequence }),
    };
  }

  /** A connection on which the device's leaf has the group open, with its log from this entry on. */
  async enter(id: string, afterSequence?: number): Promise<RawConnection> {
    const connection = await RawConnection.open(this.origin);
    await connection.demand("groupAccessGranted", this.accessFrame(connection, id, afterSequence));
    return connection;
  }

  /** Asks for what an external commit needs, with a proof by this device's leaf key or by a link. */
  async groupInfo(
    connection: RawConnection,
    id: string,
    link?: { readonly linkId: Bytes; readonly seed: Bytes },
  ): Promise<GroupInfoReply> {
    return connection.demand("groupInfoReply", this.groupInfoFrame(connection, id, link));
  }

  groupInfoFrame(
    connection: RawConnection,
    id: string,
    link?: { readonly linkId: Bytes; readonly seed: Bytes },
  ) {
    const signature = this.signAccess(connection, id, 0, 0, link === undefined ? {} : { key: link.seed });
    const proof =
      link === undefined
        ? { leaf: { signatureKey: this.identity.signatureKeys.publicKey, signature } }
        : { link: { linkId: link.linkId, signature } };
    return { kind: "groupInfoRequest" as const, groupId: parseGroupId(id), ...proof };
  }

  /** An external commit with this leaf, whatever the group's rules say of it. */
  async externalCommit(
    info: { readonly groupInfo: Bytes; readonly treeHash: Bytes },
    leaf: LeafOptions,
  ): Promise<ExternalCommit> {
    const ratchetTree = await fetchTree(this.origin, info.treeHash);
    const { message, groupInfo, group } = joinGroupExternally(
      crypto,
      {
        groupInfo: info.groupInfo,
        ratchetTree,
        identity: this.identity,
        leaf,
        removes: leafOfSignatureKey(crypto, ratchetTree, this.identity.signatureKeys.publicKey),
      },
      { policy: openPolicy },
    );
    return { commit: message, groupInfo, group };
  }
}

export const commitFrame = (
  id: string,
  { commit, groupInfo }: Pick<ExternalCommit, "commit" | "groupInfo">,
) => ({
  kind: "groupCommit" as const,
  groupId: parseGroupId(id) as GroupId,
  commit,
  groupInfo,
  recipients: [],
});

export async function fetchTree(origin: string, treeHash: Bytes): Promise<Bytes> {
  const { body, status } = await connectTo(origin).request({
    method: "GET",
    path: routePath("getTree", { treeHash: Buffer.from(treeHash).toString("base64url") }),
    maxReplyBytes: 1 << 24,
    timeoutMs: 10_000,
  });
  if (status !== 200) throw new Error(`no tree: ${status}`);
  return new Uint8Array(inflateRawSync(body));
}

/** Whether this member can open an application message, now. */
export function opens(group: Group, message: Bytes): boolean {
  try {
    return group.receive(message).kind === "application";
  } catch (error) {
    if (error instanceof RejectionError) return false;
    throw error;
  }
}
