/** Who carries a wake-up to a device. */
export type PushKind = "web-push" | "apns" | "fcm";
export const pushKinds: readonly PushKind[] = ["web-push", "apns", "fcm"];

/** Where a push service finds a device: an endpoint URL (Web Push) or a token (APNs, FCM). */
export interface PushToken {
  readonly kind: PushKind;
  readonly address: string;
}
