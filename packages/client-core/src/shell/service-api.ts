import { type AccountId, type Bytes, formatId, type GroupId } from "@murmuration/base";
import type { PathParameter } from "@murmuration/wire";
import {
  ACCESS_HEADER,
  type DeviceAuth,
  decodeMessage,
  encodeMessage,
  formatAccessKey,
  formatDeviceAuth,
  formatGroupAccess,
  GROUP_ACCESS_HEADER,
  type GroupLeaseRenewal,
  type GroupOperation,
  type GroupWriteRequest,
  limits,
  type MessageType,
  PROTOBUF_CONTENT_TYPE,
  type Route,
  type RouteName,
  routePath,
  routes,
} from "@murmuration/wire";
import { signGroupAccess } from "../core/group-keys.ts";
import { refusalOf } from "../core/refusal.ts";
import type { Transport } from "../ports/transport.ts";

type RouteReply<N extends RouteName> = (typeof routes)[N] extends Route<infer _, infer Reply> ? Reply : never;
type RouteRequest<N extends RouteName> = (typeof routes)[N] extends Route<infer Body, infer _> ? Body : never;

export type Authorisation =
  | { readonly kind: "none" }
  | { readonly kind: "device"; readonly auth: DeviceAuth }
  | { readonly kind: "access"; readonly accessKey: Bytes }
  | { readonly kind: "group"; readonly challenge: Bytes; readonly signature: Bytes };

const NOBODY: Authorisation = { kind: "none" };

function authorisationHeader(by: Authorisation): Record<string, string> {
  switch (by.kind) {
    case "none":
      return {};
    case "device":
      return { authorization: formatDeviceAuth(by.auth) };
    case "access":
      return { [ACCESS_HEADER]: formatAccessKey(by.accessKey) };
    case "group":
      return { [GROUP_ACCESS_HEADER]: formatGroupAccess(by) };
  }
}

/** The HTTP half of the contract. Refusals are ServiceRefusal, everything else that fails is UnavailableError. */
export class ServiceApi {
  readonly transport: Transport;
  private readonly timeoutMs: number;

  constructor(transport: Transport, timeoutMs: number) {
    this.transport = transport;
    this.timeoutMs = timeoutMs;
  }

  async call<N extends RouteName>(
    name: N,
    by: Authorisation = NOBODY,
    body?: RouteRequest<N>,
    parameters: Partial<Record<PathParameter, string>> = {},
  ): Promise<RouteReply<N>> {
    const request = routes[name].request;
    const bytes =
      body === undefined || request === undefined || request === "blob"
        ? undefined
        : encodeMessage(request as MessageType<unknown>, body);
    return this.send(name, by, bytes, parameters);
  }

  private async send<N extends RouteName>(
    name: N,
    by: Authorisation,
    body: Bytes | undefined,
    parameters: Partial<Record<PathParameter, string>>,
  ): Promise<RouteReply<N>> {
    const { method, reply } = routes[name];
    const answer = await this.transport.request({
      method,
      path: routePath(name, parameters),
      headers: {
        ...authorisationHeader(by),
        ...(body === undefined ? {} : { "content-type": PROTOBUF_CONTENT_TYPE }),
      },
      ...(body === undefined ? {} : { body }),
      maxReplyBytes: limits.groupRecordBytes + 64 * 1024,
      timeoutMs: this.timeoutMs,
    });
    if (answer.status >= 300) throw refusalOf(answer.status, answer.body);
    if (reply === undefined || typeof reply === "string") return undefined as RouteReply<N>;
    return decodeMessage(reply as MessageType<unknown>, answer.body, answer.body.length) as RouteReply<N>;
  }

  /** Reads a group record: a challenge, then the signed request. */
  async readGroup(groupId: GroupId, groupKey: Bytes): Promise<RouteReply<"readGroup">> {
    const body = new Uint8Array(0);
    return this.send("readGroup", await this.groupAccess(groupId, groupKey, "read", body), undefined, {
      groupId: formatId(groupId),
    });
  }

  /** Writes a group record with a body that was encoded before. */
  async writeGroup(groupId: GroupId, groupKey: Bytes, body: Bytes): Promise<RouteReply<"writeGroup">> {
    return this.send("writeGroup", await this.groupAccess(groupId, groupKey, "write", body), body, {
      groupId: formatId(groupId),
    });
  }

  static encodeGroupWrite(request: GroupWriteRequest): Bytes {
    return encodeMessage(routes.writeGroup.request as MessageType<GroupWriteRequest>, request);
  }

  /** Renews the lease of a migration; ms that are left then. */
  async renewLease(groupId: GroupId, groupKey: Bytes, renewal: GroupLeaseRenewal): Promise<number> {
    const body = encodeMessage(routes.renewLease.request as MessageType<GroupLeaseRenewal>, renewal);
    const by = await this.groupAccess(groupId, groupKey, "renew-lease", body);
    return (await this.send("renewLease", by, body, { groupId: formatId(groupId) })).leaseLeftMs;
  }

  private async groupAccess(
    groupId: GroupId,
    groupKey: Bytes,
    operation: GroupOperation,
    body: Bytes,
  ): Promise<Authorisation> {
    const { challenge } = await this.call("challenge");
    const signature = signGroupAccess(groupKey, { groupId, challenge, operation, body });
    return { kind: "group", challenge, signature };
  }
}

/** Path parameter of an account. */
export const ofAccount = (account: AccountId): { readonly accountId: string } => ({
  accountId: formatId(account),
});
