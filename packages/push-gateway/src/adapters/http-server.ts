import { once } from "node:events";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { UnavailableError } from "@murmuration/base";
import type { Answer, Request } from "../service/requests.ts";

export interface HttpServerOptions {
  readonly host: string;
  /** 0 picks a free port. */
  readonly port: number;
  /** Proxies in front whose X-Forwarded-For is believed. */
  readonly trustedProxies: number;
  readonly maxBodyBytes: number;
}

export interface HttpServer {
  readonly port: number;
  close(): Promise<void>;
}

/** Listens and answers each request with `answer`. Rejects with UnavailableError `server/cannot-listen`. */
export async function listen(
  options: HttpServerOptions,
  answer: (request: Request) => Promise<Answer>,
): Promise<HttpServer> {
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 30_000, maxHeaderSize: 8192 },
    async (message, response) => {
      const { body, headers, status } = await answer({
        method: message.method ?? "",
        path: (message.url ?? "").split("?")[0]!,
        remoteAddress: remoteAddressOf(message, options.trustedProxies),
        authorization: message.headers.authorization,
        body: () => read(message, options.maxBodyBytes),
      });
      response.writeHead(status, { "cache-control": "no-store", ...headers });
      response.end(body);
      // What was not read is not worth reading.
      if (!message.complete) response.once("finish", () => message.destroy());
    },
  );
  server.listen(options.port, options.host);
  await Promise.race([
    once(server, "listening"),
    once(server, "error").then(() => Promise.reject(new UnavailableError("server/cannot-listen"))),
  ]);
  return { port: (server.address() as AddressInfo).port, close: () => close(server) };
}

/** The body, or undefined where it is longer than allowed or broke off. */
async function read(message: IncomingMessage, maxBytes: number): Promise<Uint8Array | undefined> {
  if (Number(message.headers["content-length"] ?? 0) > maxBytes) return undefined;
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of message.iterator({ destroyOnReturn: false })) {
      length += (chunk as Buffer).length;
      if (length > maxBytes) return undefined;
      chunks.push(chunk as Buffer);
    }
  } catch {
    return undefined;
  }
  return Buffer.concat(chunks);
}

function remoteAddressOf(message: IncomingMessage, trustedProxies: number): string {
  const direct = message.socket.remoteAddress ?? "";
  const header = message.headers["x-forwarded-for"];
  if (trustedProxies === 0 || typeof header !== "string") return direct;
  const hops = header.split(",").map((hop) => hop.trim());
  return hops.at(-trustedProxies) ?? direct;
}

async function close(server: Server): Promise<void> {
  const closed = once(server, "close");
  server.close();
  server.closeIdleConnections();
  await closed;
}
