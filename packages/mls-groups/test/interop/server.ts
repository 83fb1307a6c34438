import {
  loadPackageDefinition,
  Server,
  ServerCredentials,
  type ServiceClientConstructor,
  status,
  type UntypedServiceImplementation,
} from "@grpc/grpc-js";
import { MurmurationError } from "@murmuration/base";
import { InteropClient, type InteropOptions } from "./client.ts";
import { interopDefinition, type MethodName, methods } from "./service-definition.ts";

type Callback = (error: { code: number; details: string } | null, value?: unknown) => void;

/** A running server; `close` ends it and every connection to it. */
export interface InteropServer {
  readonly port: number;
  close(): void;
}

/** The generated constructor of the service's client, with its description. */
export function interopService() {
  const loaded = loadPackageDefinition(interopDefinition()) as unknown as {
    readonly mls_client: { readonly MLSClient: ServiceClientConstructor };
  };
  return loaded.mls_client.MLSClient;
}

/** Serves the interop methods on loopback, or on `host`. Port 0 takes a free one. */
export async function startInteropServer(
  port: number,
  options: InteropOptions,
  host = "127.0.0.1",
): Promise<InteropServer> {
  const { handlers } = new InteropClient(options);
  const server = new Server();
  const implementation: UntypedServiceImplementation = Object.fromEntries(
    (Object.keys(methods) as MethodName[]).map((name) => [
      name,
      ({ request }: { readonly request: unknown }, callback: Callback): void => {
        try {
          callback(null, handlers[name](request as never));
        } catch (error) {
          // The runner prints this; codes and our own sentences hold no secret.
          const details = error instanceof Error ? error.message : "unknown";
          const code = error instanceof MurmurationError ? status.INVALID_ARGUMENT : status.INTERNAL;
          callback({ code, details: `${name}: ${details}` });
        }
      },
    ]),
  );
  server.addService(interopService().service, implementation);
  const bound = await new Promise<number>((resolve, reject) => {
    server.bindAsync(`${host}:${port}`, ServerCredentials.createInsecure(), (error, actual) =>
      error === null ? resolve(actual) : reject(error),
    );
  });
  return { port: bound, close: () => server.forceShutdown() };
}
