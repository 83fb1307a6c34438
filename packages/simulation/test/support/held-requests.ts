import { UnavailableError } from "@murmuration/base";
import type { HttpReply, HttpRequest, Transport } from "@murmuration/client-core";

/** A link that keeps a client's requests of some kind back, until they are let go or lost. */
export class HeldRequests {
  private prefix: string | undefined;
  private losing = false;
  private kept: { readonly go: () => void; readonly lose: () => void }[] = [];

  /** Of those that were kept. */
  get count(): number {
    return this.kept.length;
  }

  /** Keeps all from here on that begin like this, such as `PUT /v1/groups`. */
  keep(prefix: string): void {
    this.prefix = prefix;
  }

  letGo(): void {
    this.prefix = undefined;
    this.losing = false;
    for (const { go } of this.kept.splice(0)) go();
  }

  /** They never reach the service, and neither do those that follow, until some are let go. */
  lose(): void {
    this.losing = true;
    for (const { lose } of this.kept.splice(0)) lose();
  }

  readonly wrapTransport = (transport: Transport): Transport => ({
    origin: transport.origin,
    connect: (handlers, timeoutMs) => transport.connect(handlers, timeoutMs),
    request: (request) => this.request(transport, request),
    stream: (request) => transport.stream(request),
    get traffic() {
      return transport.traffic;
    },
    close: () => {
      this.lose();
      transport.close();
    },
  });

  private async request(transport: Transport, request: HttpRequest): Promise<HttpReply> {
    const isKept = this.prefix !== undefined && `${request.method} ${request.path}`.startsWith(this.prefix);
    if (isKept) {
      if (this.losing) throw new UnavailableError("connection/lost");
      await new Promise<void>((go, reject) => {
        this.kept.push({ go, lose: () => reject(new UnavailableError("connection/lost")) });
      });
    }
    return transport.request(request);
  }
}
