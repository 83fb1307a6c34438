import { encodeRejection, PROTOBUF_CONTENT_TYPE } from "@murmuration/wire";
import { addressKey } from "../core/token-bucket.ts";
import type { CloseCause, Connection, ConnectionHandler, UpgradeRefusal } from "../ports/socket-server.ts";
import { ClientConnection, type ConnectionSet } from "./client-connection.ts";
import type { ServiceContext } from "./context.ts";
import type { GroupHub } from "./group-hub.ts";
import { StoreMarks } from "./store-marks.ts";

/**
 * Every open connection of this process, and how many there may be. Connections that have not said Hello are
 * held in the order they came: when there are too many, the oldest one goes, so that a crowd which never speaks
 * cannot keep a client out.
 */
export class Connections implements ConnectionSet {
  readonly marks: StoreMarks;
  private readonly context: ServiceContext;
  private readonly hub: GroupHub;
  private readonly open = new Set<ClientConnection>();
  private readonly unidentified = new Set<ClientConnection>();
  private readonly devices = new Map<string, ClientConnection>();
  private readonly names = new Map<ClientConnection, string>();
  private readonly perAddress = new Map<string, number>();
  private stopping = false;

  constructor(hub: GroupHub) {
    this.context = hub.context;
    this.marks = new StoreMarks(hub.context);
    this.hub = hub;
  }

  readonly draining = (): boolean => this.stopping;

  /** Answers for an upgrade that is refused; undefined to go on. */
  admit(remoteAddress: string): UpgradeRefusal | undefined {
    const { limits, metrics, timing } = this.context;
    const code = this.stopping
      ? "service/draining"
      : (this.perAddress.get(addressKey(remoteAddress)) ?? 0) >= limits.connectionsPerAddress
        ? "connection/too-many"
        : undefined;
    if (code === undefined) return undefined;
    metrics.count("rejections", code);
    return {
      status: code === "service/draining" ? 503 : 429,
      headers: { "content-type": PROTOBUF_CONTENT_TYPE },
      body: encodeRejection(code, timing.reconnectAfterMs),
    };
  }

  opened(connection: Connection): ConnectionHandler {
    const client = new ClientConnection(this.hub, connection, this);
    this.open.add(client);
    this.unidentified.add(client);
    this.countAddress(client, 1);
    if (this.unidentified.size > this.context.limits.unidentifiedConnections) this.endOldest();
    this.report();
    return client;
  }

  readonly identified = (connection: ClientConnection, address: string | undefined): void => {
    this.unidentified.delete(connection);
    if (address === undefined) return;
    const older = this.devices.get(address);
    this.devices.set(address, connection);
    this.names.set(connection, address);
    if (older !== undefined) older.end("connection/replaced");
    this.report();
  };

  readonly closed = (connection: ClientConnection, cause: CloseCause): void => {
    this.open.delete(connection);
    this.unidentified.delete(connection);
    this.countAddress(connection, -1);
    const name = this.names.get(connection);
    if (name !== undefined && this.devices.get(name) === connection) this.devices.delete(name);
    this.names.delete(connection);
    this.context.metrics.count("connections_closed", cause);
    this.report();
  };

  /** Ends the connection of a device that was removed. */
  endDevice(address: string): void {
    this.devices.get(address)?.end("auth/invalid");
  }

  /** Lets every client come back, and so hear what Hello says now. */
  sendBack(): void {
    for (const connection of this.open) connection.sendBack();
  }

  /** Tells everybody, waits until every frame that came is answered or the deadline (ms since 1970) is over, then closes. */
  async drain(deadline: number): Promise<void> {
    this.stopping = true;
    for (const connection of this.open) connection.announceDrain();
    while ([...this.open].some((connection) => connection.busy) && this.context.clock.now() < deadline) {
      await new Promise<void>((resolve) => {
        this.context.clock.after(5, resolve);
      });
    }
    for (const connection of this.open) connection.goAway();
  }

  private endOldest(): void {
    const [oldest] = this.unidentified;
    if (oldest === undefined) return;
    this.unidentified.delete(oldest);
    oldest.end("connection/too-many");
  }

  private countAddress(connection: ClientConnection, by: number): void {
    const key = addressKey(connection.remoteAddress);
    const count = (this.perAddress.get(key) ?? 0) + by;
    if (count > 0) this.perAddress.set(key, count);
    else this.perAddress.delete(key);
  }

  private report(): void {
    this.context.metrics.gauge("connections_open", this.open.size);
    this.context.metrics.gauge("connections_authenticated", this.devices.size);
  }
}
