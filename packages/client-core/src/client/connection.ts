import type { Connection as ConnectionApi } from "../api.ts";
import type { Communities } from "../shell/communities/communities.ts";
import type { Connection } from "../shell/connection.ts";
import type { Context } from "../shell/context.ts";
import type { Inbox } from "../shell/inbox.ts";
import { withTimeout } from "../shell/with-timeout.ts";

const CATCH_UP_TIMEOUT_MS = 30_000;

/** What the application sees of the connection. It waits for a registration if there is none yet. */
export class ClientConnection implements ConnectionApi {
  private readonly context: Context;
  private readonly link: Connection;
  private readonly inbox: Inbox;
  private readonly communities: Communities;
  private wanted = false;

  constructor(context: Context, link: Connection, inbox: Inbox, communities: Communities) {
    this.communities = communities;
    this.context = context;
    this.link = link;
    this.inbox = inbox;
  }

  get state(): ConnectionApi["state"] {
    return this.link.state;
  }

  start(): void {
    this.wanted = true;
    this.startIfRegistered();
  }

  /** Called when a registration is complete. */
  startIfRegistered(): void {
    if (this.wanted && this.context.registered) this.link.start();
  }

  async stop(): Promise<void> {
    this.wanted = false;
    await this.link.stop();
  }

  async caughtUp(timeoutMs: number = CATCH_UP_TIMEOUT_MS): Promise<void> {
    const { communities, inbox, link } = this;
    await withTimeout(this.context, timeoutMs, "connection/not-caught-up", {
      done: () => link.state === "connected" && inbox.caughtUp && communities.caughtUp,
      change: (abort) =>
        Promise.race([link.wait(abort), inbox.changed.wait(abort), communities.registry.changed.wait(abort)]),
    });
  }
}
