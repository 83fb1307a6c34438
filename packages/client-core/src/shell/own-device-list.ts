import { type Bytes, equalBytes, RejectionError } from "@murmuration/base";
import {
  decodeMessage,
  encodeMessage,
  type UpdateDevicesRequest,
  updateDevicesRequest,
} from "@murmuration/wire";
import { isTemporary } from "../core/refusal.ts";
import type { Context } from "./context.ts";

/** Five devices with their lists take no more. */
const MAX_REQUEST_BYTES = 8_192;

/**
 * The newest signed list of the account's own devices on its way to the service. It is written down with the list itself and
 * stays until the service has answered: a device that was removed here and not there would go on being sent everything. There is
 * one at a time: the service wants each device described by the request with which it comes.
 */
export class OwnDeviceList {
  private readonly context: Context;

  constructor(context: Context) {
    this.context = context;
  }

  /** Inside the transaction that stores the list. */
  unpublished(request: UpdateDevicesRequest): void {
    this.context.meta.setBytes("device-list-unpublished", encodeMessage(updateDevicesRequest, request));
  }

  /** Inside a transaction: the service has shown an older one, as after a backup was brought back. */
  isBehind(): void {
    const { engine, meta } = this.context;
    if (meta.bytes("device-list-unpublished") !== undefined) return;
    const local = engine.local();
    // One device is enough.
    if (local?.holdsAccountKey === true)
      this.unpublished({ deviceList: local.deviceList as Bytes, added: [] });
  }

  /**
   * Says to the service what it has not answered yet, and then runs `answered` in the transaction that forgets it. False where
   * there is nothing. UnavailableError, ServiceRefusal: what will never be taken is forgotten.
   */
  async publish(answered: (request: UpdateDevicesRequest) => void): Promise<boolean> {
    const { context } = this;
    const encoded = context.meta.bytes("device-list-unpublished");
    if (encoded === undefined) return false;
    const request = decodeMessage(updateDevicesRequest, encoded, MAX_REQUEST_BYTES);
    // A newer one may have been made meanwhile, or another call was as quick.
    const forget = (): boolean => {
      const newest = context.meta.bytes("device-list-unpublished");
      if (newest === undefined || !equalBytes(newest, encoded)) return false;
      context.meta.delete("device-list-unpublished");
      return true;
    };
    try {
      await context.api.call("updateDevices", context.deviceAuthorisation, request);
    } catch (error) {
      // In a conflict another request of this account was as quick: what became of this one is clear with the next try.
      const isOpen =
        isTemporary(error) || (error instanceof RejectionError && error.code === "device-list/conflict");
      if (!isOpen) context.transaction(forget);
      throw error;
    }
    context.transaction(() => {
      if (forget()) answered(request);
    });
    return true;
  }
}
