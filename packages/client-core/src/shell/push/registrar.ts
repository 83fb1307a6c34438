/** This device at its push gateway. */
import { equalBytes, RejectionError } from "@murmuration/base";
import { limits } from "@murmuration/wire";
import type { PushToken } from "@murmuration/wire/push";
import { lookAt } from "../../core/push.ts";
import type { PushGateway, PushGateways } from "../../ports/push-gateway.ts";
import type { RegistrationRow } from "../../store/push.ts";
import type { Context } from "../context.ts";

/** What the gateway answers to whoever shows a token id that it does not know, or not the secret that belongs to it. */
const UNKNOWN = "auth/invalid";

export class Registrar {
  private readonly context: Context;
  private readonly gateways: PushGateways;

  constructor(context: Context, gateways: PushGateways) {
    this.context = context;
    this.gateways = gateways;
  }

  /** Persists where this device wants to be woken from now on; undefined: nowhere. */
  want(wanted: { readonly gateway: string; readonly token: PushToken } | undefined): void {
    const { context } = this;
    const { push } = context;
    context.transaction(() => {
      const current = push.current();
      if (current !== undefined && current.gateway === wanted?.gateway) {
        const { kind, address } = current.token;
        const same = kind === wanted.token.kind && address === wanted.token.address;
        if (!same || current.refusal !== "") push.setToken(current.id, wanted.token);
        return;
      }
      if (current !== undefined) push.setOver(current.id, context.now());
      if (wanted !== undefined) push.add(wanted.gateway, wanted.token);
    });
  }

  /** Whether {@link tell} has something to do. */
  isDue({ given, lookAtMs, told }: RegistrationRow): boolean {
    return given === undefined || !told || lookAtMs <= this.context.now();
  }

  /**
   * Brings the gateway to have the token, and registers anew where it has forgotten this device or has another key. Throws
   * what the gateway refuses with, and UnavailableError.
   */
  async tell(row: RegistrationRow): Promise<void> {
    const gateway = this.at(row);
    const { handleKey } = await gateway.info();
    if (row.given !== undefined && equalBytes(row.given.handleKey, handleKey)) {
      try {
        // Also where nothing is new: the gateway forgets a token that nobody uses.
        await gateway.replace(row.given, row.token);
        return this.told(row);
      } catch (error) {
        if (!(error instanceof RejectionError) || error.code !== UNKNOWN) throw error;
      }
    }
    const given = await gateway.register(row.token);
    this.context.transaction(() => {
      this.context.push.setGiven(row.id, { ...given, handleKey });
      this.setTold(row);
    });
  }

  /** Deletes a registration at its gateway, as long as there may be handles of it. Throws UnavailableError. */
  async end(row: RegistrationRow): Promise<void> {
    const { context } = this;
    const isWorthIt = context.now() - row.overAtMs! < limits.pushHandleLifetimeMs;
    try {
      if (row.given !== undefined && isWorthIt) await this.at(row).delete(row.given);
    } catch (error) {
      // It does not know it any more, and will not.
      if (!(error instanceof RejectionError)) throw error;
    }
    context.transaction(() => context.push.remove(row.id));
  }

  private told(row: RegistrationRow): void {
    this.context.transaction(() => this.setTold(row));
  }

  private setTold(row: RegistrationRow): void {
    const { environment, push } = this.context;
    push.setTold(row.id, row.token, lookAt(this.context.now(), environment.random(4)));
  }

  private at({ gateway }: RegistrationRow): PushGateway {
    return this.gateways(gateway, this.context.closing.signal);
  }
}
