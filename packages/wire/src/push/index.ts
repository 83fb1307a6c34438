/**
 * What devices and the push gateway have in common, and nobody else needs: the gateway's interface and the handles that are
 * sealed to it. Apart from the schema, so that the gateway has no word of envelopes and groups, and a client nothing of the
 * gateway's servers.
 */
export { PushGatewayClient, type PushGatewayInfo, type PushRegistration } from "./gateway-client.ts";
export { generateKeyPair, type KeyPair } from "./hpke.ts";
export { type PushKind, type PushToken, pushKinds } from "./push-token.ts";
export { openWakeHandle, sealWakeHandle, WAKE_HANDLE_BYTES, type WakeHandle } from "./wake-handle.ts";
