/**
 * The HTTP half: every route with its method, path, authorisation, bodies and size. Both sides build on this
 * table, so a path or an authorisation kind is written once.
 */
import { limits } from "./limits.ts";
import * as m from "./messages.ts";
import type { MessageType } from "./shape.ts";

export const SOCKET_PATH = "/v1/socket";
export const PROTOBUF_CONTENT_TYPE = "application/x-protobuf";
export const BLOB_CONTENT_TYPE = "application/octet-stream";

/**
 * none          anybody
 * device        Authorization of a device
 * device-or-access   Authorization of any device, or the access key of the account in the path
 * group-access  signature with the group's access key over a challenge
 */
export type AuthKind = "none" | "device" | "device-or-access" | "group-access";

/**
 * A path parameter by its name: `:accountId`, `:groupId`, `:blobId` are ids in text form, `:treeHash` and `:baseHash` 32
 * bytes.
 */
export type PathParameter = "accountId" | "groupId" | "blobId" | "treeHash" | "baseHash";

export interface Route<Request, Reply> {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  readonly path: string;
  readonly auth: AuthKind;
  /** Protobuf body of the request, "blob" for raw bytes, undefined for none. */
  readonly request: MessageType<Request> | "blob" | undefined;
  /** Protobuf body of the answer 200, "blob" (200 or 206), "text", undefined for 204 without a body. */
  readonly reply: MessageType<Reply> | "blob" | "text" | undefined;
  /** Largest body of the request, bytes. */
  readonly maxBodyBytes: number;
}

const body = limits.httpBodyBytes;

function route<Request, Reply>(
  method: Route<Request, Reply>["method"],
  path: string,
  auth: AuthKind,
  request: Route<Request, Reply>["request"],
  reply: Route<Request, Reply>["reply"],
  maxBodyBytes: number = request === undefined ? 0 : body,
): Route<Request, Reply> {
  return { method, path, auth, request, reply, maxBodyBytes };
}

export const routes = {
  /** Versions, store id, trust root. */
  info: route("GET", "/v1/info", "none", undefined, m.serviceInfo),
  /** Creates an account with its first device. The same request again is answered alike. */
  register: route("POST", "/v1/accounts", "none", m.registerRequest, m.registerReply),
  /** Deletes the account of the asking device with all its devices; a tombstone stays. */
  deleteAccount: route("DELETE", "/v1/accounts", "device", undefined, undefined),
  /** Adds and removes devices by publishing the next device list. The same list again is answered alike. */
  updateDevices: route("PUT", "/v1/devices", "device", m.updateDevicesRequest, undefined),
  /** The newest device list of an account. */
  deviceList: route(
    "GET",
    "/v1/accounts/:accountId/devices",
    "device-or-access",
    undefined,
    m.deviceListReply,
  ),
  /** Adds one-time prekeys and replaces signed and last-resort prekeys of the asking device. */
  uploadKeys: route("PUT", "/v1/keys", "device", m.preKeyUpload, m.preKeyCounts),
  /** How many one-time prekeys the asking device has left. */
  countKeys: route("GET", "/v1/keys", "device", undefined, m.preKeyCounts),
  /** Takes one PreKeyBundle for each device of an account: uses up one-time prekeys. */
  bundles: route(
    "POST",
    "/v1/accounts/:accountId/bundles",
    "device-or-access",
    m.bundleRequest,
    m.bundleReply,
  ),
  /** A fresh SenderCertificate for the asking device. */
  certificate: route("GET", "/v1/certificate", "device", undefined, m.certificateReply),
  /** Replaces access key and encrypted profile of the asking account. */
  updateProfile: route("PUT", "/v1/profile", "device", m.profileUpdate, undefined),
  /** The encrypted profile of an account. */
  profile: route("GET", "/v1/accounts/:accountId/profile", "device-or-access", undefined, m.profileReply),
  /** A single-use challenge for group access. */
  challenge: route("POST", "/v1/challenges", "none", undefined, m.challengeReply),
  /** Record of a pairwise group. */
  readGroup: route("GET", "/v1/groups/:groupId", "group-access", undefined, m.groupRecord),
  /** Compare-and-set of the record. A new record is signed with the key that it brings. */
  writeGroup: route(
    "PUT",
    "/v1/groups/:groupId",
    "group-access",
    m.groupWriteRequest,
    m.groupWriteReply,
    limits.groupRecordBytes + 1024,
  ),
  /** Renews the lease of a migration. The record and its revision stay as they are. */
  renewLease: route(
    "POST",
    "/v1/groups/:groupId/lease",
    "group-access",
    m.groupLeaseRenewal,
    m.groupLeaseReply,
    1024,
  ),
  /** Stores an opaque attachment under an id the client chose. The same bytes again are answered alike. */
  putBlob: route("PUT", "/v1/blobs/:blobId", "device", "blob", undefined, limits.blobBytes),
  /** An attachment, or a range of it. */
  getBlob: route("GET", "/v1/blobs/:blobId", "none", undefined, "blob"),
  /** Adds MLS KeyPackages of the asking device. */
  uploadKeyPackages: route("PUT", "/v1/key-packages", "device", m.keyPackageUpload, m.keyPackageCounts),
  /** How many KeyPackages the asking device has left. */
  countKeyPackages: route("GET", "/v1/key-packages", "device", undefined, m.keyPackageCounts),
  /** Takes one KeyPackage for each device of the accounts named. */
  claimKeyPackages: route(
    "POST",
    "/v1/key-packages/claims",
    "device",
    m.keyPackageClaimRequest,
    m.keyPackageClaimReply,
  ),
  /** Sets the handle by which the asking device is woken for its mailbox. */
  setPushHandle: route("PUT", "/v1/push-handle", "device", m.pushHandleUpload, undefined),
  /** Nothing wakes the asking device for its mailbox any more. */
  deletePushHandle: route("DELETE", "/v1/push-handle", "device", undefined, undefined),
  /** The ratchet tree of this hash, compressed, or a range of it. It never changes. */
  getTree: route("GET", "/v1/trees/:treeHash", "none", undefined, "blob"),
  /** What changed from the tree of the second hash to that of the first, compressed, for whoever has that one. */
  getTreeChanges: route("GET", "/v1/trees/:treeHash/from/:baseHash", "none", undefined, "blob"),
  /** 200 while the service takes requests, 503 while it drains or an engine that it needs does not answer. */
  health: route("GET", "/health", "none", undefined, "text"),
  /** 200 as long as the process answers. */
  alive: route("GET", "/health/alive", "none", undefined, "text"),
  /** Prometheus metrics. */
  metrics: route("GET", "/metrics", "none", undefined, "text"),
} as const;

export type RouteName = keyof typeof routes;
type RequestOf<R> = R extends { readonly request: MessageType<infer T> } ? T : undefined;
type ReplyOf<R> = R extends { readonly reply: MessageType<infer T> } ? T : undefined;
/** The protobuf body type that a route takes; undefined where it takes none. */
export type RouteRequest<N extends RouteName> = RequestOf<(typeof routes)[N]>;
/** The protobuf body type that a route answers with; undefined where it answers with none. */
export type RouteReply<N extends RouteName> = ReplyOf<(typeof routes)[N]>;

/** Fills the parameters of a path with text forms of ids. */
export function routePath(name: RouteName, parameters: Partial<Record<PathParameter, string>> = {}): string {
  return routes[name].path.replace(/:(\w+)/g, (_, key: string) => {
    const value = parameters[key as PathParameter];
    if (value === undefined) throw new TypeError(`path parameter ${key} is missing`);
    return value;
  });
}

/** The outcome of looking a request's path up. */
export type RouteMatch =
  | {
      readonly kind: "found";
      readonly name: RouteName;
      readonly parameters: Partial<Record<PathParameter, string>>;
    }
  | { readonly kind: "unknown-route" }
  | { readonly kind: "method-not-allowed" };

/** Characters of a parameter's text form: base64url of 16 bytes, and of a tree hash's 32. */
const lengthOf = (parameter: string): number => (parameter.endsWith("Hash") ? 43 : 22);
const patternOf = (path: string): string =>
  path.replace(/:(\w+)/g, (_, name: string) => `(?<${name}>[A-Za-z0-9_-]{${lengthOf(name)}})`);

const patterns = (Object.keys(routes) as RouteName[]).map((name) => ({
  name,
  method: routes[name].method,
  pattern: new RegExp(`^${patternOf(routes[name].path)}$`),
}));

/** Finds the route of a method and a path without its query. Linear in the number of routes. */
export function matchRoute(method: string, path: string): RouteMatch {
  let known = false;
  for (const { name, method: its, pattern } of patterns) {
    const match = pattern.exec(path);
    if (match === null) continue;
    if (its === method) return { kind: "found", name, parameters: { ...match.groups } };
    known = true;
  }
  return known ? { kind: "method-not-allowed" } : { kind: "unknown-route" };
}
