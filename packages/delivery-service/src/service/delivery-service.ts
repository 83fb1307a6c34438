import { generateCertificateSigner, generateTrustRoot } from "@murmuration/pairwise/server";
import { protocolVersions, SOCKET_PATH } from "@murmuration/wire";
import type { CertificateAuthorityKeys, CertificateStore } from "../ports/certificates.ts";
import type { HttpResponse, SocketServer } from "../ports/socket-server.ts";
import * as accountRoutes from "./account-routes.ts";
import { getBlob, putBlob } from "./blob-routes.ts";
import { Connections } from "./connections.ts";
import type { ServiceContext } from "./context.ts";
import { GroupHub } from "./group-hub.ts";
import { GroupRoutes } from "./group-routes.ts";
import { type Handlers, handleRequest } from "./http.ts";
import * as keyPackageRoutes from "./key-package-routes.ts";
import * as keyRoutes from "./key-routes.ts";
import { gaugeMigrations } from "./migration-reports.ts";
import { PushQueue } from "./push-queue.ts";
import * as pushRoutes from "./push-routes.ts";
import { Readiness } from "./readiness.ts";
import { toRefusal } from "./refusals.ts";
import { RetentionRunner } from "./retention-runner.ts";
import { TreeRoutes } from "./tree-routes.ts";
import { WakingMailboxSignals } from "./waking-signals.ts";

/** Where the service listens, and how many connections it bears. */
export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  readonly maxConnections: number;
  readonly trustedProxies: number;
}

const FIRST_SIGNER_KEY_ID = 1;
/** A frame may be this much longer than its limit and is still answered in words before the close. */
const OVERSIZE_SLACK_BYTES = 65_536;
const FIRST_RETENTION_MS = 5_000;
const PLAIN = "text/plain; charset=utf-8";

/** Loads the certificate authority's keys, or makes them when the service starts for the first time. */
export async function openAuthority(store: CertificateStore): Promise<CertificateAuthorityKeys> {
  const stored = await store.load();
  if (stored !== undefined) return stored;
  const trustRoot = generateTrustRoot();
  const signer = generateCertificateSigner(trustRoot.privateKey, FIRST_SIGNER_KEY_ID);
  return store.saveFirst({
    trustRootPublicKey: trustRoot.publicKey,
    trustRootPrivateKey: trustRoot.privateKey,
    signerKeyId: FIRST_SIGNER_KEY_ID,
    signerCertificate: signer.serverCertificate,
    signerPrivateKey: signer.privateKey,
  });
}

/** The running service: routes and connections over one set of stores. */
export class DeliveryService {
  private readonly context: ServiceContext;
  private readonly server: SocketServer;
  private readonly push: PushQueue | undefined;
  private readonly waking: WakingMailboxSignals | undefined;
  private readonly hub: GroupHub;
  private readonly connections: Connections;
  private readonly retention: RetentionRunner;
  private readonly readiness: Readiness;
  private requests = 0;

  constructor(given: ServiceContext, server: SocketServer) {
    const { pushGateway } = given;
    this.push = pushGateway && new PushQueue(given, pushGateway);
    this.waking = this.push && new WakingMailboxSignals(given, this.push);
    const context = this.waking === undefined ? given : { ...given, signals: this.waking };
    this.context = context;
    this.server = server;
    this.hub = new GroupHub(context, this.push);
    this.connections = new Connections(this.hub);
    this.retention = new RetentionRunner(context, (address) => this.connections.endDevice(address));
    context.stores.mailboxes.onLost((storeId) => {
      context.storeId = storeId;
      context.log.warn("mailboxes-lost");
      // Ids begin anew: no connection may go on with those of before.
      this.connections.sendBack();
    });
    this.readiness = new Readiness(context.probes, context.clock, context.metrics);
  }

  /** Starts to listen; resolves with the port. */
  async listen(options: ListenOptions): Promise<number> {
    const { limits } = this.context;
    const handlers = this.handlers();
    const port = await this.server.listen(
      {
        ...options,
        socketPath: SOCKET_PATH,
        maxFrameBytes: limits.frameBytes + OVERSIZE_SLACK_BYTES,
        maxFirstFrameBytes: limits.helloBytes + OVERSIZE_SLACK_BYTES,
        pingIntervalMs: limits.pingIntervalMs,
        pingTimeoutMs: limits.silenceTimeoutMs,
        headersTimeoutMs: limits.helloTimeoutMs,
        bodyTimeoutMs: limits.httpRequestTimeoutMs,
      },
      {
        admit: (remoteAddress) => this.connections.admit(remoteAddress),
        opened: (connection) => this.connections.opened(connection),
        request: async (request) => {
          this.requests++;
          try {
            return await handleRequest(this.context, handlers, this.connections.draining, request);
          } finally {
            this.requests--;
          }
        },
      },
    );
    this.retention.start(FIRST_RETENTION_MS);
    // Welcomes of commits that were accepted before a crash.
    this.hub.outbox.pump();
    this.context.log.info("listening");
    return port;
  }

  /** Runs the retention schedule now. */
  runRetention(): Promise<void> {
    return this.retention.runOnce();
  }

  /** Refuses what is new, tells every client, answers what it has taken on, closes. The stores stay open. */
  async drain(): Promise<void> {
    this.retention.stop();
    this.context.log.info("draining");
    const deadline = this.context.clock.now() + this.context.timing.drainTimeoutMs;
    await this.connections.drain(deadline);
    while (this.requests > 0 && this.context.clock.now() < deadline) {
      await new Promise<void>((resolve) => {
        this.context.clock.after(5, resolve);
      });
    }
    await this.server.stopAccepting();
    await this.hub.flush();
  }

  /** Cuts what is left and closes the stores; what was accepted is durable already. */
  async close(): Promise<void> {
    this.retention.stop();
    this.waking?.stop();
    await this.server.close();
    await this.hub.close();
    await this.push?.stop();
    await this.context.validator.close();
    await this.context.stores.close();
  }

  private handlers(): Handlers {
    const groups = new GroupRoutes();
    const trees = new TreeRoutes();
    const endDevice: accountRoutes.EndDevice = (address) => this.connections.endDevice(address);
    return {
      info: async ({ storeId, authority, clock }) => ({
        versions: protocolVersions,
        storeId,
        certificateTrustRoot: authority.trustRootPublicKey,
        serverTimeMs: clock.now(),
      }),
      register: accountRoutes.register,
      deleteAccount: (context, call) => accountRoutes.deleteAccount(context, call, endDevice),
      updateDevices: (context, call) => accountRoutes.updateDevices(context, call, endDevice),
      deviceList: accountRoutes.deviceList,
      updateProfile: accountRoutes.updateProfile,
      profile: accountRoutes.profile,
      uploadKeys: keyRoutes.uploadKeys,
      countKeys: keyRoutes.countKeys,
      bundles: keyRoutes.bundles,
      certificate: keyRoutes.certificate,
      challenge: groups.challenge,
      readGroup: groups.read,
      writeGroup: groups.write,
      renewLease: groups.renewLease,
      putBlob,
      getBlob,
      uploadKeyPackages: keyPackageRoutes.uploadKeyPackages,
      countKeyPackages: keyPackageRoutes.countKeyPackages,
      claimKeyPackages: keyPackageRoutes.claimKeyPackages,
      setPushHandle: pushRoutes.setPushHandle,
      deletePushHandle: pushRoutes.deletePushHandle,
      getTree: trees.read,
      getTreeChanges: trees.readChanges,
      health: () => this.health(),
      // Whoever restarts a node for its engine's sake cuts off its clients and helps nobody.
      alive: async () => textResponse(200, PLAIN, "alive\n"),
      metrics: () => this.metrics(),
    };
  }

  /** Whether clients should be sent here: no while it drains, and no while an engine does not answer. */
  private async health(): Promise<HttpResponse> {
    if (this.connections.draining()) return textResponse(503, PLAIN, "draining\n");
    const gone = await this.readiness.gone();
    return gone.length === 0
      ? textResponse(200, PLAIN, "ok\n")
      : textResponse(503, PLAIN, `not ready: no answer from ${gone.join(", ")}\n`);
  }

  /** Figures of the process are told also when an engine is gone: then they are wanted most. */
  private async metrics(): Promise<HttpResponse> {
    const { log, metrics, stores } = this.context;
    const gone = await this.readiness.gone();
    try {
      if (gone.length === 0) {
        const totals = await stores.mailboxes.totals();
        metrics.gauge("mailbox_envelopes", totals.envelopes);
        metrics.gauge("mailbox_bytes", totals.bytes);
        await gaugeMigrations(this.context);
      }
    } catch (error) {
      toRefusal(error, log);
    }
    return textResponse(200, "text/plain; version=0.0.4; charset=utf-8", await metrics.render());
  }
}

function textResponse(status: number, contentType: string, text: string): HttpResponse {
  return {
    status,
    headers: { "content-type": contentType, "cache-control": "no-store" },
    body: new TextEncoder().encode(text),
  };
}
