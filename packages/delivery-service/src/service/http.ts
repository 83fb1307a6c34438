import { type Bytes, parseAccountId, RejectionError } from "@murmuration/base";
import {
  ACCESS_HEADER,
  type AuthKind,
  BLOB_CONTENT_TYPE,
  decodeMessage,
  encodeMessage,
  encodeRejection,
  GROUP_ACCESS_HEADER,
  type GroupAccess,
  type MessageType,
  matchRoute,
  type PathParameter,
  PROTOBUF_CONTENT_TYPE,
  parseAccessKey,
  parseDeviceAuth,
  parseGroupAccess,
  type RouteName,
  rejectionRow,
  routes,
} from "@murmuration/wire";
import { hasAccess } from "../core/submit.ts";
import type { AccountRecord } from "../ports/accounts.ts";
import type { HttpRequest, HttpResponse } from "../ports/socket-server.ts";
import { type AuthenticatedDevice, authenticate } from "./authentication.ts";
import type { ServiceContext } from "./context.ts";
import { toRefusal } from "./refusals.ts";

/** One request after its route, authorisation and body were checked. */
export interface Call {
  readonly request: HttpRequest;
  readonly parameters: Partial<Record<PathParameter, string>>;
  /** The protobuf body as received: empty where the route takes none, or a blob, which is read in pieces. */
  readonly raw: Bytes;
  /** The decoded body of a protobuf route. */
  readonly body: unknown;
  /** Set on `device` routes, and on `device-or-access` ones when a device asks. */
  readonly device: AuthenticatedDevice | undefined;
  /** The account in the path of a `device-or-access` route. */
  readonly target: AccountRecord | undefined;
  /** Set on `group-access` routes. */
  readonly groupAccess: GroupAccess | undefined;
}

/** What a handler gives back: a message of the route's reply type, a whole response, or nothing. */
type Answer = HttpResponse | object | undefined;
type Handler = (context: ServiceContext, call: Call) => Promise<Answer>;
export type Handlers = Readonly<Record<RouteName, Handler>>;

const EMPTY: Bytes = new Uint8Array(0);
/** Answered also while the service drains. */
const OPERATIONAL: ReadonlySet<RouteName> = new Set(["health", "alive", "metrics"]);

/** Answers one request. Never rejects. */
export async function handleRequest(
  context: ServiceContext,
  handlers: Handlers,
  draining: () => boolean,
  request: HttpRequest,
): Promise<HttpResponse> {
  const startedAt = performance.now();
  try {
    const match = matchRoute(request.method, request.path);
    if (match.kind !== "found") throw new RejectionError(`http/${match.kind}`);
    if (draining() && !OPERATIONAL.has(match.name)) throw new RejectionError("service/draining");
    const call = await toCall(context, match.name, match.parameters, request);
    const answer = await handlers[match.name](context, call);
    return toResponse(match.name, answer);
  } catch (error) {
    const { code, retryAfterMs } = toRefusal(error, context.log);
    context.metrics.count("rejections", code);
    return {
      status: rejectionRow(code).status,
      headers: { "content-type": PROTOBUF_CONTENT_TYPE },
      body: encodeRejection(code, retryAfterMs),
    };
  } finally {
    context.metrics.observe("http_request_ms", performance.now() - startedAt);
  }
}

/**
 * Authorisation first: nobody makes the service read a body without it. And once more when the body is there: it
 * may take half a minute, in which a device can be removed or an access key replaced.
 */
async function toCall(
  context: ServiceContext,
  name: RouteName,
  parameters: Call["parameters"],
  request: HttpRequest,
): Promise<Call> {
  const { auth, maxBodyBytes, request: bodyType } = routes[name];
  const authorised = await authorise(context, auth, parameters, request);
  if (bodyType !== undefined) checkBodyHeaders(request, bodyType, maxBodyBytes);
  if (bodyType === undefined || bodyType === "blob") {
    return { request, parameters, raw: EMPTY, body: undefined, ...authorised };
  }
  const raw = await request.body(maxBodyBytes);
  const body = decodeMessage(bodyType as MessageType<unknown>, raw, maxBodyBytes);
  return { request, parameters, raw, body, ...(await authorise(context, auth, parameters, request)) };
}

/** Who asks, as far as the route wants to know it. A signature for a group is checked with the record at hand. */
async function authorise(
  context: ServiceContext,
  kind: AuthKind,
  parameters: Call["parameters"],
  request: HttpRequest,
): Promise<Pick<Call, "device" | "target" | "groupAccess">> {
  const nobody = { device: undefined, target: undefined, groupAccess: undefined };
  switch (kind) {
    case "none":
      return nobody;
    case "device":
      return { ...nobody, device: await requireDevice(context, request) };
    case "device-or-access":
      return { ...nobody, ...(await deviceOrAccess(context, parameters, request)) };
    case "group-access": {
      const groupAccess = parseGroupAccess(requireHeader(request, GROUP_ACCESS_HEADER));
      // A client that names itself beside the group would tell who is a member: it shall notice.
      if (request.header("authorization") !== undefined) throw new RejectionError("auth/malformed");
      return { ...nobody, groupAccess };
    }
  }
}

function checkBodyHeaders(
  request: HttpRequest,
  bodyType: MessageType<unknown> | "blob",
  maxBodyBytes: number,
): void {
  const expected = bodyType === "blob" ? BLOB_CONTENT_TYPE : PROTOBUF_CONTENT_TYPE;
  if (request.header("content-type") !== expected) throw new RejectionError("http/bad-content-type");
  const announced = request.header("content-length");
  if (bodyType === "blob" && announced === undefined) throw new RejectionError("http/length-required");
  if (announced !== undefined && Number(announced) > maxBodyBytes) {
    throw new RejectionError("wire/too-large");
  }
}

function requireHeader(request: HttpRequest, name: string): string {
  const value = request.header(name);
  if (value === undefined) throw new RejectionError("auth/missing");
  return value;
}

function requireDevice(context: ServiceContext, request: HttpRequest): Promise<AuthenticatedDevice> {
  return authenticate(context, parseDeviceAuth(requireHeader(request, "authorization")));
}

/** A device's token, or the access key of the account in the path; never both in one request. */
async function deviceOrAccess(
  context: ServiceContext,
  parameters: Call["parameters"],
  request: HttpRequest,
): Promise<{ readonly device: AuthenticatedDevice | undefined; readonly target: AccountRecord }> {
  const accountId = parseAccountId(parameters.accountId ?? "");
  const accessHeader = request.header(ACCESS_HEADER);
  if (accessHeader === undefined) {
    const device = await requireDevice(context, request);
    const target = await context.stores.accounts.load(accountId);
    if (target === undefined) throw new RejectionError("accounts/unknown");
    return { device, target };
  }
  if (request.header("authorization") !== undefined) throw new RejectionError("auth/malformed");
  const accessKey = parseAccessKey(accessHeader);
  const target = await context.stores.accounts.load(accountId);
  if (target === undefined) throw new RejectionError("accounts/unknown");
  if (!hasAccess(target, accessKey)) throw new RejectionError("auth/access-denied");
  return { device: undefined, target };
}

function toResponse(name: RouteName, answer: Answer): HttpResponse {
  if (answer === undefined) return { status: 204, headers: {}, body: EMPTY };
  if (isResponse(answer)) return answer;
  const { reply } = routes[name];
  return {
    status: 200,
    headers: { "content-type": PROTOBUF_CONTENT_TYPE, "cache-control": "no-store" },
    body: encodeMessage(reply as MessageType<unknown>, answer),
  };
}

function isResponse(answer: object): answer is HttpResponse {
  return "status" in answer && "headers" in answer;
}
