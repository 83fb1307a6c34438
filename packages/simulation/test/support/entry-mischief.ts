import type { Transport } from "@murmuration/client-core";
import type { GroupEntries, ServiceFrame } from "@murmuration/wire";

/** What becomes of a page of a log on its way to one client: none, one or several pages in its place. */
export type Mischief = (page: GroupEntries) => readonly GroupEntries[];

/** A way to the service on which somebody tampers with the pages of logs, and with nothing else. */
export class TamperedLog {
  /** Pages as the service sent them. */
  readonly sent: GroupEntries[] = [];
  private mischief: Mischief | undefined;
  private deliver: ((page: GroupEntries) => void) | undefined;

  begin(mischief: Mischief): void {
    this.mischief = mischief;
  }

  end(): void {
    this.mischief = undefined;
  }

  /** Hands a page to the client that the service has not sent now. */
  inject(page: GroupEntries): void {
    this.deliver?.(page);
  }

  readonly wrapTransport = (transport: Transport): Transport =>
    Object.assign(Object.create(transport) as Transport, {
      connect: (handlers: Parameters<Transport["connect"]>[0], timeoutMs: number) => {
        const deliver = (page: GroupEntries) =>
          handlers.frame({ requestId: 0, body: { kind: "groupEntries", ...page } });
        const frame = (received: ServiceFrame) => {
          const { body } = received;
          if (body.kind !== "groupEntries") {
            handlers.frame(received);
            return;
          }
          this.deliver = deliver;
          this.sent.push(body);
          for (const page of this.mischief?.(body) ?? [body]) deliver(page);
        };
        return transport.connect({ ...handlers, frame, closed: () => handlers.closed() }, timeoutMs);
      },
    });

  /** Spoils what is said next, so that this client cannot read it. Returns whether that has come. */
  spoilNext(): () => boolean {
    let hasCome = false;
    this.begin((page) => {
      const entries = page.entries.map((entry) => {
        if (entry.application === undefined || hasCome) return entry;
        hasCome = true;
        const message = new Uint8Array(entry.application.message);
        message[message.length - 1]! ^= 1;
        return { ...entry, application: { ...entry.application, message } };
      });
      return [{ ...page, entries }];
    });
    return () => hasCome;
  }
}
