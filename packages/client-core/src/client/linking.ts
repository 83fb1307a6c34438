/**
 * Linking a second device. What travels between the two devices is text for a channel that the user trusts:
 *
 *   offer     first -> new    account id, account identity key
 *   request   new -> first    device identity key, signature over the account key, registration id, token hash
 *   answer    first -> new    device list, profile key, name, trust root: a secret
 */
import { createHash } from "node:crypto";
import {
  accountId,
  type Bytes,
  decodeWhole,
  deviceId,
  encode,
  equalBytes,
  fromBase64Url,
  fromUtf8,
  type Reader,
  RejectionError,
  toBase64Url,
  UsageError,
  utf8,
  type Writer,
} from "@murmuration/base";
import type { Linking, OwnAccount } from "../api.ts";
import { encodeContent, SYNC_PAGE } from "../core/content.ts";
import type { Context } from "../shell/context.ts";
import { type Directory, toWireUpload } from "../shell/directory.ts";
import type { GroupLedger } from "../shell/group-ledger.ts";
import { OwnDeviceList } from "../shell/own-device-list.ts";
import type { Sender } from "../shell/sender.ts";
import { syncedContact } from "./contacts.ts";
import { firstPreKeys } from "./registration.ts";

const PREFIXES = {
  offer: "murmuration-offer:",
  request: "murmuration-request:",
  answer: "murmuration-answer:",
} as const;
const TOKEN_BYTES = 32;

function format(kind: keyof typeof PREFIXES, write: (writer: Writer) => void): string {
  return PREFIXES[kind] + toBase64Url(encode(undefined, write));
}

function parse<T>(kind: keyof typeof PREFIXES, text: string, read: (reader: Reader) => T): T {
  try {
    if (!text.startsWith(PREFIXES[kind])) throw new RejectionError("linking/bad-text");
    return decodeWhole(fromBase64Url(text.slice(PREFIXES[kind].length)), read);
  } catch {
    throw new RejectionError("linking/bad-text");
  }
}

const copy = (bytes: Uint8Array): Bytes => new Uint8Array(bytes);

/** What the client does before and after. */
export interface LinkingEffects {
  registered(): OwnAccount;
  wakeOwn(): void;
  /** The account's own device list has changed. */
  devicesChanged(): void;
  /** Inside the transaction: a device of the account is gone, and has what the account's devices had. */
  deviceGone(): void;
}

export class ClientLinking implements Linking {
  private readonly context: Context;
  private readonly directory: Directory;
  private readonly groups: GroupLedger;
  private readonly sender: Sender;
  private readonly effects: LinkingEffects;
  private readonly list: OwnDeviceList;

  constructor(
    context: Context,
    directory: Directory,
    groups: GroupLedger,
    sender: Sender,
    effects: LinkingEffects,
  ) {
    this.context = context;
    this.directory = directory;
    this.groups = groups;
    this.sender = sender;
    this.effects = effects;
    this.list = new OwnDeviceList(context);
  }

  offer(): string {
    const { engine, own } = this.context;
    const { accountIdentityKey } = engine.local()!;
    return format("offer", (writer) => void writer.fixed(own.accountId).bytes(accountIdentityKey));
  }

  async request(offer: string): Promise<string> {
    const { context } = this;
    if (context.registered) throw new UsageError("client/already-registered");
    const account = parse("offer", offer, (reader) => ({
      accountId: accountId(reader.fixed(16)),
      accountIdentityKey: copy(reader.bytes()),
    }));
    const info = await context.api.call("info");
    context.transaction(() => context.meta.setBytes("trust-root", info.certificateTrustRoot));
    context.trust(info.certificateTrustRoot);
    const token = context.environment.random(TOKEN_BYTES);
    const request = await context.engine.generateLinkRequest(account, ({ writeSet, output }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        context.meta.setBytes("token", token);
        context.meta.setBytes("account-id", account.accountId);
        return output;
      }),
    );
    const tokenHash = createHash("sha256").update(token).digest();
    return format("request", (writer) => {
      writer
        .bytes(request.identityKey)
        .bytes(request.deviceSignature)
        .uint16(request.registrationId)
        .fixed(tokenHash);
    });
  }

  async approve(text: string): Promise<string> {
    const { context } = this;
    const { registrationId, tokenHash, ...request } = parse("request", text, (reader) => ({
      identityKey: copy(reader.bytes()),
      deviceSignature: copy(reader.bytes()),
      registrationId: reader.uint16(),
      tokenHash: copy(reader.fixed(TOKEN_BYTES)),
    }));
    await this.publish();
    // Whoever asks again was not told that it had worked.
    if (!this.isListed(request.identityKey)) {
      await context.engine.addDevice(request, ({ writeSet, output }) =>
        context.transaction(() => {
          context.pairwiseRows.applyWriteSet(writeSet);
          const { identityKey } = request;
          const added = { deviceId: deviceId(output.deviceId), registrationId, identityKey, tokenHash };
          this.list.unpublished({ deviceList: output.deviceList, added: [added] });
        }),
      );
      await this.publish();
    }
    return format("answer", (writer) => {
      writer
        .bytes(context.engine.local()!.deviceList)
        .bytes(context.meta.require("profile-key"))
        .bytes(utf8(context.meta.text("name")));
    });
  }

  /** Inside a transaction: contacts, groups and timers for the new device. */
  private introduceAll(): void {
    const { context } = this;
    const contacts = context.contacts.list();
    for (let at = 0; at < contacts.length; at += SYNC_PAGE) {
      this.sender.sync({ contacts: { contacts: contacts.slice(at, at + SYNC_PAGE).map(syncedContact) } });
    }
    const groups = context.conversations.groupsWith(context.own.accountId).flatMap((id) => {
      const groupId = id as Parameters<GroupLedger["inviteFor"]>[0];
      const invite = this.groups.inviteFor(groupId);
      return invite === undefined ? [] : [{ groupId, invite }];
    });
    for (let at = 0; at < groups.length; at += SYNC_PAGE) {
      this.sender.sync({ groups: { groups: groups.slice(at, at + SYNC_PAGE) } });
    }
    for (const { expireAfterSeconds, id, kind, state } of context.conversations.list()) {
      // In a group the timer stands in its record.
      if (kind === "direct" && state === "active" && expireAfterSeconds > 0)
        this.introduceExpiry(id, expireAfterSeconds);
    }
  }

  private introduceExpiry(conversationId: Bytes, seconds: number): void {
    const content = encodeContent({ messageId: this.context.newMessageId(), expiry: { seconds } });
    this.sender.sync({ sent: { conversationId, content, sentAtMs: this.context.now() } });
  }

  async finish(answer: string): Promise<OwnAccount> {
    const { context } = this;
    if (context.registered) throw new UsageError("client/already-registered");
    const { deviceList, profileKey, name } = parse("answer", answer, (reader) => ({
      deviceList: copy(reader.bytes()),
      profileKey: copy(reader.bytes()),
      name: fromUtf8(reader.bytes()),
    }));
    if (context.engine.local() === undefined) {
      await context.engine.adoptLink(deviceList, ({ writeSet }) =>
        context.transaction(() => {
          context.pairwiseRows.applyWriteSet(writeSet);
          context.meta.setBytes("profile-key", profileKey);
          context.meta.setText("name", name);
          context.meta.setNumber("access-published", 1);
        }),
      );
    }
    context.readOwn();
    const upload = await firstPreKeys(context);
    await context.api.call("uploadKeys", context.deviceAuthorisation, toWireUpload(upload));
    await this.directory.confirmUpload(upload.uploadId);
    context.transaction(() => context.meta.setNumber("registered", 1));
    this.effects.wakeOwn();
    return this.effects.registered();
  }

  devices(): readonly number[] {
    const { engine, own } = this.context;
    return engine.deviceListOf(own.accountId)?.devices.map((device) => device.deviceId) ?? [];
  }

  async remove(device: number): Promise<void> {
    const { context } = this;
    const wasUnpublished = await this.publish();
    if (wasUnpublished && !this.devices().includes(device)) return;
    await context.engine.removeDevice(deviceId(device), ({ writeSet, output }) =>
      context.transaction(() => {
        context.pairwiseRows.applyWriteSet(writeSet);
        this.list.unpublished({ deviceList: output.deviceList, added: [] });
      }),
    );
    await this.publish();
  }

  /** What the service has not been told yet of the account's devices. Also with each connection. Rejects like {@link OwnDeviceList.publish}. */
  async publish(): Promise<boolean> {
    const published = await this.context.queue.run("device-list", () =>
      this.list.publish(({ added }) => {
        if (added.length > 0) this.introduceAll();
        else this.effects.deviceGone();
      }),
    );
    if (!published) return false;
    this.effects.wakeOwn();
    this.effects.devicesChanged();
    return true;
  }

  private isListed(identityKey: Bytes): boolean {
    const { engine, own } = this.context;
    const list = engine.deviceListOf(own.accountId);
    return list?.devices.some((device) => equalBytes(device.identityKey, identityKey)) ?? false;
  }
}
