export type * from "./api.ts";
export type { Parameters, Row, Storage, Value } from "./ports/storage.ts";
export type {
  HttpReply,
  HttpRequest,
  Socket,
  SocketHandlers,
  Transport,
} from "./ports/transport.ts";
