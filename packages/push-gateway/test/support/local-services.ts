import { createPublicKey, generateKeyPairSync, type KeyObject, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer as createHttpServer, type IncomingMessage } from "node:http";
import { constants, createSecureServer, type ServerHttp2Stream } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import webPush from "web-push";
import type { ApnsConfig, FcmConfig, WebPushConfig } from "../../src/config.ts";
import { selfSigned } from "./certificate.ts";
import { verifyJwt } from "./jwt.ts";

/** A request as a push service received it, after it has checked who sent it. */
export interface ReceivedPush {
  /** Where to: the path, or the token. */
  readonly to: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** What a push service answers next; 2xx where nothing is queued. */
export interface QueuedAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
}

/** A push service on this machine that speaks the real protocol. */
export interface LocalService<Config> {
  readonly config: Config;
  readonly received: ReceivedPush[];
  readonly answers: QueuedAnswer[];
  /** Complaints about requests that a real push service would refuse. */
  readonly complaints: string[];
  close(): Promise<void>;
}

const files = mkdtempSync(join(tmpdir(), "push-services-"));
process.once("exit", () => rmSync(files, { recursive: true, force: true }));

const tls = selfSigned();
/** PEM file of the certificate that the local services show. */
export const certificateFile = file("certificate.pem", tls.certificate);

/** Web Push over HTTPS: RFC 8030 with VAPID, RFC 8292. Subscriptions are `subscription(n)`. */
export async function startLocalWebPush(): Promise<
  LocalService<WebPushConfig> & { readonly subscription: (name: string) => string }
> {
  const keys = webPush.generateVAPIDKeys();
  const own = state();
  const server = createHttpsServer({ key: tls.key, cert: tls.certificate }, async (request, response) => {
    const body = await bodyOf(request);
    try {
      const { authorization = "" } = request.headers;
      const [, token = "", key] = /^vapid t=([\w.-]+), ?k=([\w-]+)$/.exec(authorization) ?? [];
      check(key === keys.publicKey, "the key of another sender");
      const { claims } = verifyJwt(token, "ES256", publicKeyOf(key!));
      check(claims["aud"] === `https://${request.headers.host}`, "an audience that is somebody else");
      check(claims["sub"] === SUBJECT, "no subject");
      const left = Number(claims["exp"]) - Date.now() / 1000;
      check(left > 0 && left <= 86_400, "expires too late, or too soon");
      check(request.method === "POST" && /^\d+$/.test(request.headers["ttl"] as string), "no TTL");
    } catch (error) {
      own.complaints.push(String(error));
      response.writeHead(403).end();
      return;
    }
    own.received.push({ to: request.url!, headers: flat(request.headers), body });
    const answer = own.answers.shift() ?? { status: 201, headers: { location: "/message/1" } };
    response.writeHead(answer.status, answer.headers).end(answer.body);
  });
  const port = await listen(server);
  return {
    ...own,
    config: { subject: SUBJECT, ...keys, hosts: [`localhost:${port}`] },
    subscription: (name) => `https://localhost:${port}/push/${name}`,
    close: () => close(server),
  };
}

/** APNs: HTTP/2 over TLS, ES256 provider tokens. */
export async function startLocalApns(): Promise<LocalService<ApnsConfig>> {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const own = state();
  const names = { keyId: "ABC123DEFG", teamId: "DEF123GHIJ", topic: "org.example.murmuration" };
  const server = createSecureServer({ key: tls.key, cert: tls.certificate });
  const sessions = new Set<{ destroy(): void }>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => {});
  });
  server.on("stream", async (stream: ServerHttp2Stream, headers) => {
    stream.on("error", () => {});
    const chunks: Buffer[] = [];
    for await (const chunk of stream) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    try {
      const token = /^bearer (.+)$/.exec(headers["authorization"] ?? "")?.[1] ?? "";
      const { claims, header } = verifyJwt(token, "ES256", publicKey);
      check(header["kid"] === names.keyId && claims["iss"] === names.teamId, "another provider");
      check(Math.abs(Number(claims["iat"]) - Date.now() / 1000) < 3600, "an old provider token");
      check(headers["apns-topic"] === names.topic, "another topic");
      // Of background notifications Apple wants exactly this.
      check(headers["apns-push-type"] === "background" && headers["apns-priority"] === "5", "no background");
    } catch (error) {
      own.complaints.push(String(error));
      stream.respond({ ":status": 403 });
      stream.end(JSON.stringify({ reason: "InvalidProviderToken" }));
      return;
    }
    const to = String(headers[constants.HTTP2_HEADER_PATH]).replace("/3/device/", "");
    own.received.push({ to, headers: flat(headers), body });
    const answer = own.answers.shift() ?? { status: 200 };
    stream.respond({ ":status": answer.status, "apns-id": crypto.randomUUID(), ...answer.headers });
    stream.end(answer.body);
  });
  const port = await listen(server);
  const key = privateKey.export({ type: "pkcs8", format: "pem" }) as string;
  return {
    ...own,
    config: { keyFile: file("apns.p8", key), ...names, address: "localhost", port },
    close: async () => {
      for (const session of sessions) session.destroy();
      await close(server);
    },
  };
}

/** FCM: an OAuth token endpoint that wants an RS256 assertion (RFC 7523), and the HTTP v1 API. */
export async function startLocalFcm(): Promise<
  LocalService<FcmConfig> & { readonly tokensGiven: () => number }
> {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const own = state();
  const project = "murmuration-test";
  const account = `push@${project}.iam.gserviceaccount.com`;
  const accessTokens = new Set<string>();
  const server = createHttpServer(async (request, response) => {
    const body = await bodyOf(request);
    try {
      if (request.url === "/token") {
        const form = new URLSearchParams(body);
        check(form.get("grant_type") === "urn:ietf:params:oauth:grant-type:jwt-bearer", "another grant");
        const { claims } = verifyJwt(form.get("assertion") ?? "", "RS256", publicKey);
        check(claims["iss"] === account, "another account");
        check(claims["aud"] === tokenEndpoint, "an audience that is somebody else");
        check(claims["scope"] === "https://www.googleapis.com/auth/firebase.messaging", "another scope");
        const accessToken = randomBytes(24).toString("base64url");
        accessTokens.add(accessToken);
        response.writeHead(200, { "content-type": "application/json" });
        response.end(JSON.stringify({ access_token: accessToken, expires_in: 3600, token_type: "Bearer" }));
        return;
      }
      check(request.url === `/v1/projects/${project}/messages:send`, `unknown path ${request.url}`);
      const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
      check(bearer !== undefined && accessTokens.has(bearer), "no access token");
    } catch (error) {
      own.complaints.push(String(error));
      response.writeHead(401, { "content-type": "application/json" }).end("{}");
      return;
    }
    const { message } = JSON.parse(body) as { message: { token: string } };
    own.received.push({ to: message.token, headers: flat(request.headers), body });
    const sent = { status: 200, body: JSON.stringify({ name: `projects/${project}/messages/1` }) };
    const answer: QueuedAnswer = own.answers.shift() ?? sent;
    response.writeHead(answer.status, { "content-type": "application/json", ...answer.headers });
    response.end(answer.body);
  });
  const port = await listen(server);
  const endpoint = `http://127.0.0.1:${port}`;
  const tokenEndpoint = `${endpoint}/token`;
  const key = privateKey.export({ type: "pkcs8", format: "pem" });
  const credentials = {
    type: "service_account",
    project_id: project,
    client_email: account,
    private_key: key,
  };
  return {
    ...own,
    config: { credentialsFile: file("fcm.json", JSON.stringify(credentials)), endpoint, tokenEndpoint },
    tokensGiven: () => accessTokens.size,
    close: () => close(server),
  };
}

/** FCM's answer for a token that is no more. */
export const unregistered: QueuedAnswer = {
  status: 404,
  body: JSON.stringify({
    error: {
      code: 404,
      status: "NOT_FOUND",
      details: [
        { "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", errorCode: "UNREGISTERED" },
      ],
    },
  }),
};

const SUBJECT = "mailto:operator@example.org";

function state() {
  return { received: [] as ReceivedPush[], answers: [] as QueuedAnswer[], complaints: [] as string[] };
}

function check(holds: boolean, complaint: string): void {
  if (!holds) throw new Error(complaint);
}

/** A VAPID key: an uncompressed point of P-256. */
function publicKeyOf(key: string): KeyObject {
  const point = Buffer.from(key, "base64url");
  const [x, y] = [point.subarray(1, 33), point.subarray(33)].map((part) => part.toString("base64url"));
  return createPublicKey({ key: { kty: "EC", crv: "P-256", x: x!, y: y! }, format: "jwk" });
}

function file(name: string, content: string): string {
  const path = join(mkdtempSync(join(files, "file-")), name);
  writeFileSync(path, content, { mode: 0o600 });
  return path;
}

function flat(headers: Readonly<Record<string, unknown>>): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

async function listen(server: Server): Promise<number> {
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return (server.address() as AddressInfo).port;
}

async function close(server: Server & { closeAllConnections?(): void }): Promise<void> {
  server.close();
  server.closeAllConnections?.();
}
