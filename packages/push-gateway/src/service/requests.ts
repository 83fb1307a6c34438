import { createHash } from "node:crypto";
import {
  type Bytes,
  equalSecret,
  fromBase64Url,
  fromUtf8,
  RejectionError,
  toBase64Url,
  utf8,
} from "@murmuration/base";
import { type PushKind, type PushToken, pushKinds, WAKE_HANDLE_BYTES } from "@murmuration/wire/push";
import { dayOf } from "../core/days.ts";
import { type Rate, TokenBuckets } from "../core/token-bucket.ts";
import type { Clock, Log, Random } from "../ports/environment.ts";
import type { PushServices } from "../ports/push-service.ts";
import type { StoredToken, TokenStore } from "../ports/token-store.ts";
import type { Counts } from "./counts.ts";
import type { Wake, Wakes } from "./wakes.ts";

/** An HTTP request, as far as the gateway looks at it. */
export interface Request {
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly remoteAddress: string;
  readonly authorization: string | undefined;
  /** Undefined where it is too long or broke off. */
  body(): Promise<Uint8Array | undefined>;
}

export interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

export interface RequestOptions {
  /** What callers who may wake show. */
  readonly wakeSecret: Bytes;
  readonly maxTokens: number;
  /** New tokens from one address. */
  readonly registrations: Rate;
  /** Wake-ups asked for by all callers together. */
  readonly wakes: Rate;
  /** Public half of the VAPID key, which a browser wants when it subscribes. */
  readonly vapidPublicKey: string | undefined;
}

interface Parts {
  readonly store: TokenStore;
  readonly services: PushServices;
  readonly wakes: Wakes;
  /** To which clients seal. */
  readonly handleKey: Bytes;
  readonly clock: Clock;
  readonly random: Random;
  readonly log: Log;
  readonly counts: Counts;
}

/** Entries of one wake request. */
const MAX_WAKES = 256;
/** Body of a request, bytes: fits the largest wake request. */
export const MAX_BODY_BYTES = 64 * 1024;
const SECRET_BYTES = 32;
const TOKEN_PATH = /^\/v1\/tokens\/([\w-]{22})$/;
const JSON_TYPE = { "content-type": "application/json" };

const STATUSES: Readonly<Record<string, number>> = {
  "auth/invalid": 401,
  "request/unknown-route": 404,
  "request/too-large": 413,
  "rate/limited": 429,
  "store/full": 503,
};

/** A rejection that says when to come back. */
class LaterRejection extends RejectionError {
  readonly retryAfterMs: number;
  constructor(code: string, retryAfterMs: number) {
    super(code);
    this.retryAfterMs = retryAfterMs;
  }
}

/**
 * The gateway's interface: clients register, change and delete their push token, the delivery service asks for wake-ups.
 * Nothing here has a place for a message, a group, or an account.
 */
export class Requests {
  private readonly parts: Parts;
  private readonly options: RequestOptions;
  private readonly registrations: TokenBuckets;
  private readonly wakeRate: TokenBuckets;

  constructor(parts: Parts, options: RequestOptions) {
    this.parts = parts;
    this.options = options;
    this.registrations = new TokenBuckets(options.registrations);
    this.wakeRate = new TokenBuckets(options.wakes);
  }

  /** Never rejects. */
  readonly answer = async (request: Request): Promise<Answer> => {
    try {
      return await this.route(request);
    } catch (error) {
      const known = error instanceof RejectionError;
      const code = known ? error.code : "service/internal";
      if (!known)
        this.parts.log.error("internal-error", { kind: error instanceof Error ? error.name : "other" });
      this.parts.counts.add("rejections", code);
      const retry =
        error instanceof LaterRejection
          ? { "retry-after": String(Math.ceil(error.retryAfterMs / 1000)) }
          : {};
      const status = known ? (STATUSES[code] ?? 400) : 500;
      return { status, headers: { ...JSON_TYPE, ...retry }, body: JSON.stringify({ code }) };
    }
  };

  private async route(request: Request): Promise<Answer> {
    const { method, path } = request;
    const route = `${method} ${TOKEN_PATH.test(path) ? "/v1/tokens/:id" : path}`;
    switch (route) {
      case "GET /v1/info":
        return json(200, this.info());
      case "POST /v1/tokens":
        return json(201, await this.register(request));
      case "PUT /v1/tokens/:id": {
        const { tokenId } = await this.owned(request);
        const token = this.tokenOf(await bodyOf(request));
        await this.parts.store.replace(tokenId, token, this.today());
        return NO_CONTENT;
      }
      case "DELETE /v1/tokens/:id": {
        const { tokenId } = await this.owned(request);
        await this.parts.store.delete(tokenId);
        return NO_CONTENT;
      }
      case "POST /v1/wake":
        await this.wake(request);
        return ACCEPTED;
      case "GET /health":
        return { status: 200, headers: TEXT_TYPE, body: "ok\n" };
      case "GET /metrics": {
        const body = this.parts.counts.render(await this.parts.store.count());
        return { status: 200, headers: TEXT_TYPE, body };
      }
      default:
        throw new RejectionError("request/unknown-route");
    }
  }

  private info(): object {
    const { handleKey, services } = this.parts;
    const { vapidPublicKey } = this.options;
    return {
      handleKey: toBase64Url(handleKey),
      services: pushKinds.filter((kind) => services[kind] !== undefined),
      ...(vapidPublicKey !== undefined && { vapidPublicKey }),
    };
  }

  private async register(request: Request): Promise<object> {
    const { random, store } = this.parts;
    const retryAfterMs = this.registrations.take(
      addressKey(request.remoteAddress),
      1,
      this.parts.clock.now(),
    );
    if (retryAfterMs > 0) throw new LaterRejection("rate/limited", retryAfterMs);
    const token = this.tokenOf(await bodyOf(request));
    const tokenId = random.bytes(16);
    const secret = toBase64Url(random.bytes(SECRET_BYTES));
    const stored = { ...token, tokenId, secretHash: sha256(utf8(secret)), lastUsedDay: this.today() };
    if ((await store.create(stored, this.options.maxTokens)) === "full")
      throw new RejectionError("store/full");
    return { tokenId: toBase64Url(tokenId), secret };
  }

  private async wake(request: Request): Promise<void> {
    const shown = bearerOf(request);
    // Hashes have one length, so that the comparison does not tell that of the secret.
    if (!equalSecret(sha256(shown), sha256(this.options.wakeSecret)))
      throw new RejectionError("auth/invalid");
    const wakes = wakesOf(await bodyOf(request));
    const retryAfterMs = this.wakeRate.take("all", wakes.length, this.parts.clock.now());
    if (retryAfterMs > 0) throw new LaterRejection("rate/limited", retryAfterMs);
    this.parts.wakes.accept(wakes);
  }

  /** The token of the path, for whoever shows its secret. Tells a wrong secret from an unknown id to nobody. */
  private async owned(request: Request): Promise<StoredToken> {
    const tokenId = parse(TOKEN_PATH.exec(request.path)![1]!);
    const stored = await this.parts.store.load(tokenId);
    const matches = equalSecret(sha256(bearerOf(request)), stored?.secretHash ?? new Uint8Array(32));
    if (stored === undefined || !matches) throw new RejectionError("auth/invalid");
    return stored;
  }

  private tokenOf(body: Readonly<Record<string, unknown>>): PushToken {
    const { address, kind } = body;
    const service = this.parts.services[kind as PushKind];
    if (!pushKinds.includes(kind as PushKind) || service === undefined) {
      throw new RejectionError("token/service-unknown");
    }
    if (typeof address !== "string") throw new RejectionError("request/malformed");
    const reason = service.refuses(address);
    if (reason !== undefined) throw new RejectionError(`token/${reason}`);
    return { kind: kind as PushKind, address };
  }

  private today(): number {
    return dayOf(this.parts.clock.now());
  }
}

const TEXT_TYPE = { "content-type": "text/plain; charset=utf-8" };
const NO_CONTENT: Answer = { status: 204, headers: {}, body: "" };
const ACCEPTED: Answer = { status: 202, headers: {}, body: "" };

function json(status: number, value: object): Answer {
  return { status, headers: JSON_TYPE, body: JSON.stringify(value) };
}

async function bodyOf(request: Request): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await request.body();
  if (bytes === undefined) throw new RejectionError("request/too-large");
  try {
    const value: unknown = JSON.parse(fromUtf8(bytes));
    if (typeof value === "object" && value !== null) return value as Record<string, unknown>;
  } catch {
    // Told below.
  }
  throw new RejectionError("request/malformed");
}

function wakesOf({ wakes }: Readonly<Record<string, unknown>>): readonly Wake[] {
  if (!Array.isArray(wakes) || wakes.length > MAX_WAKES) throw new RejectionError("request/malformed");
  return wakes.map((wake: unknown) => {
    const { handle, mentioned = false } = (wake ?? {}) as Record<string, unknown>;
    if (typeof handle !== "string" || typeof mentioned !== "boolean")
      throw new RejectionError("request/malformed");
    const bytes = parse(handle);
    if (bytes.length !== WAKE_HANDLE_BYTES) throw new RejectionError("request/malformed");
    return { handle: bytes, mentioned };
  });
}

function bearerOf({ authorization }: Request): Bytes {
  const match = /^Bearer ([\x21-\x7e]{1,512})$/.exec(authorization ?? "");
  if (match === null) throw new RejectionError("auth/invalid");
  return utf8(match[1]!);
}

function parse(text: string): Bytes {
  try {
    return fromBase64Url(text);
  } catch {
    throw new RejectionError("request/malformed");
  }
}

function sha256(bytes: Uint8Array): Bytes {
  return new Uint8Array(createHash("sha256").update(bytes).digest());
}

/** An IPv6 address by its /64, because one customer usually holds that many. */
function addressKey(remoteAddress: string): string {
  return remoteAddress.includes(".") ? remoteAddress : remoteAddress.split(":").slice(0, 4).join(":");
}
