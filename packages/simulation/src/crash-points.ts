/**
 * Crash points, generated from the effects that a client has on the world: every transaction, every frame, every
 * request and every notification is one. A plan lets the client die right before or right after a chosen effect:
 * from then on nothing it does reaches disk or network, as if its process were gone. The database is then opened
 * by a new client. Where the power is lost with it, what did not wait for the disk is gone too.
 */
import { copyFileSync, existsSync, rmSync } from "node:fs";
import type {
  HttpReply,
  HttpRequest,
  Socket,
  SocketHandlers,
  Storage,
  Transport,
} from "@murmuration/client-core";

/** Thrown into a client that has died; its host must swallow it. */
export class Killed extends Error {
  constructor() {
    super("killed by the crash plan");
    this.name = "Killed";
  }
}

type Moment = "before" | "after";

/** A database with its log as it was on the disk after the last transaction that waited for it. */
class PowerlessDisk {
  private readonly files: readonly string[];

  constructor(path: string) {
    this.files = [path, `${path}-wal`];
    this.waited();
  }

  waited(): void {
    for (const file of this.files) copy(file, `${file}.on-disk`);
  }

  loseWhatDidNotWait(): void {
    for (const file of this.files) copy(`${file}.on-disk`, file);
    // An index of the log, which is made anew.
    rmSync(`${this.files[0]}-shm`, { force: true });
  }
}

function copy(from: string, to: string): void {
  if (existsSync(from)) copyFileSync(from, to);
  else rmSync(to, { force: true });
}

export class CrashPlan {
  /** Names of the effects since `arm` or `record`, in order. */
  readonly effects: string[] = [];
  private target: { readonly at: number | string; readonly moment: Moment } | undefined;
  private counting = false;
  private deadNow = false;
  private readonly onDeath: (() => void)[] = [];
  private disk: PowerlessDisk | undefined;

  get dead(): boolean {
    return this.deadNow;
  }

  /** Counts effects from here on without killing. */
  record(): void {
    this.effects.length = 0;
    this.counting = true;
  }

  /** Counts effects from here on and kills at the given one (from 0), or at the first one of this name. */
  arm(at: number | string, moment: Moment): void {
    this.record();
    this.target = { at, moment };
  }

  whenDead(action: () => void): void {
    this.onDeath.push(action);
  }

  private die(): void {
    this.deadNow = true;
    for (const action of this.onDeath) action();
  }

  /** From here on a database file keeps what waited for the disk, and nothing else, when {@link losePower} is called. */
  losesPowerOver(path: string): void {
    this.disk = new PowerlessDisk(path);
  }

  /** After the dead client's database was closed. */
  losePower(): void {
    this.disk?.loseWhatDidNotWait();
  }

  /** Runs an effect, or dies around it. */
  effect<T>(name: string, run: () => T): T {
    if (this.deadNow) throw new Killed();
    if (!this.counting) return run();
    const index = this.effects.push(name) - 1;
    if (this.target?.at !== index && this.target?.at !== name) return run();
    if (this.target.moment === "before") {
      this.die();
      throw new Killed();
    }
    run();
    this.die();
    throw new Killed();
  }

  wrapStorage = (storage: Storage): Storage => {
    const alive = <T>(run: () => T): T => {
      if (this.deadNow) throw new Killed();
      return run();
    };
    return {
      exec: (sql) => alive(() => storage.exec(sql)),
      run: (sql, parameters) => alive(() => storage.run(sql, parameters)),
      get: (sql, parameters) => alive(() => storage.get(sql, parameters)),
      all: (sql, parameters) => alive(() => storage.all(sql, parameters)),
      transaction: (body, durability) =>
        this.effect("transaction", () => {
          const result = storage.transaction(body, durability);
          if (durability !== "with-the-next") this.disk?.waited();
          return result;
        }),
      get inTransaction() {
        return storage.inTransaction;
      },
      eraseDeleted: () => this.effect("erase", () => storage.eraseDeleted()),
      rekey: (key) => alive(() => storage.rekey(key)),
      // A dead process holds no file open; its client may still close what it thinks is its own.
      close: () => storage.close(),
    };
  };

  wrapTransport = (transport: Transport): Transport => {
    this.whenDead(() => transport.close());
    return {
      origin: transport.origin,
      connect: async (handlers, timeoutMs) => {
        const deaf: SocketHandlers = {
          frame: (frame) => {
            if (!this.deadNow) handlers.frame(frame);
          },
          closed: () => {
            if (!this.deadNow) handlers.closed();
          },
        };
        return this.wrapSocket(await transport.connect(deaf, timeoutMs));
      },
      request: (request) => this.wrapRequest(request, () => transport.request(request)),
      stream: (request) => transport.stream(request),
      get traffic() {
        return transport.traffic;
      },
      close: () => transport.close(),
    };
  };

  private wrapSocket(socket: Socket): Socket {
    return {
      send: (frame) => {
        try {
          this.effect(`send ${frame.body.kind}`, () => socket.send(frame));
        } catch (error) {
          if (!(error instanceof Killed)) throw error;
        }
      },
      close: () => socket.close(),
      get bytesSent() {
        return socket.bytesSent;
      },
      get bytesReceived() {
        return socket.bytesReceived;
      },
    };
  }

  /** A request that was handed over may take effect; a dead client does not see the answer. */
  private async wrapRequest(request: HttpRequest, run: () => Promise<HttpReply>): Promise<HttpReply> {
    const name = `${request.method} ${request.path.split("/").slice(0, 3).join("/")}`;
    let answer: Promise<HttpReply> | undefined;
    try {
      answer = this.effect(name, () => {
        answer = run();
        return answer;
      });
    } catch (error) {
      await answer?.catch(() => undefined);
      throw error;
    }
    const reply = await answer;
    if (this.deadNow) throw new Killed();
    return reply;
  }
}
