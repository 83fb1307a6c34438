import { UsageError } from "@murmuration/base";
import { pushKinds } from "@murmuration/wire/push";
import type { Push as PushApi, PushOptions, PushStatus } from "../api.ts";
import type { PushGateways } from "../ports/push-gateway.ts";
import type { Context } from "../shell/context.ts";
import type { Push } from "../shell/push/push.ts";
import { withTimeout } from "../shell/with-timeout.ts";

const SETTLE_TIMEOUT_MS = 30_000;
/** What a gateway takes at most is less. */
const MAX_ADDRESS = 4096;

/** What the application sees of how this device is woken. */
export class ClientPush implements PushApi {
  private readonly context: Context;
  private readonly push: Push;
  private readonly gateways: PushGateways;

  constructor(context: Context, push: Push, gateways: PushGateways) {
    this.context = context;
    this.push = push;
    this.gateways = gateways;
  }

  get status(): PushStatus {
    const current = this.context.push.current();
    return {
      state: current === undefined ? "off" : "on",
      gateway: current?.gateway,
      kind: current?.token.kind,
      registered: current?.given !== undefined && current.told,
      failure: current?.refusal || undefined,
      waitingHandles: this.push.waiting().handles,
    };
  }

  async on({ address, gateway, kind }: PushOptions): Promise<void> {
    if (!pushKinds.includes(kind) || address === "" || address.length > MAX_ADDRESS)
      throw new UsageError("push/bad-token");
    this.push.want({ gateway: originOf(gateway), token: { kind, address } });
  }

  async off(): Promise<void> {
    this.push.want(undefined);
  }

  async settled(timeoutMs: number = SETTLE_TIMEOUT_MS): Promise<void> {
    await withTimeout(this.context, timeoutMs, "push/not-settled", {
      done: () => {
        const { gateway, handles } = this.push.waiting();
        return !gateway && handles === 0;
      },
      change: (abort) => this.push.changed.wait(abort),
    });
  }

  async describeGateway(gateway: string) {
    const { services, vapidPublicKey } = await this.gateways(
      originOf(gateway),
      this.context.closing.signal,
    ).info();
    return { services, vapidPublicKey };
  }
}

function originOf(gateway: string): string {
  const url = URL.canParse(gateway) ? new URL(gateway) : undefined;
  if (url?.protocol !== "http:" && url?.protocol !== "https:") throw new UsageError("push/bad-gateway");
  return url.origin;
}
