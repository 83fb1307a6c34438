import { type Bytes, RejectionError } from "@murmuration/base";
import { connectTo, type Socket } from "@murmuration/client-core";
import type { ClientBody, DeviceAuth, GroupEntry, ServiceBody, ServiceFrame } from "@murmuration/wire";
import { until } from "../../src/index.ts";

type BodyOf<K extends ServiceBody["kind"]> = Extract<ServiceBody, { kind: K }>;

/** One greeted socket by hand: asks what it likes, and keeps everything that was pushed. */
export class RawConnection {
  readonly pushed: ServiceBody[] = [];
  isClosed = false;
  private socket: Socket | undefined;
  private readonly answers = new Map<number, (body: ServiceBody) => void>();
  private nextRequest = 1;
  private greeting: BodyOf<"helloReply"> | undefined;

  /** An anonymous connection, or a device's own one. */
  static async open(origin: string, auth?: DeviceAuth): Promise<RawConnection> {
    const connection = new RawConnection();
    const handlers = {
      frame: (frame: ServiceFrame) => connection.receive(frame),
      closed: () => {
        connection.isClosed = true;
      },
    };
    connection.socket = await connectTo(origin).connect(handlers, 10_000);
    const hello = { kind: "hello", versions: [1], ...(auth === undefined ? {} : { auth }) } as const;
    connection.greeting = await connection.demand("helloReply", hello);
    return connection;
  }

  get challenge(): Bytes {
    return this.greeting!.challenge;
  }

  /** Resolves with the answer, whatever it is. */
  ask(body: ClientBody): Promise<ServiceBody> {
    const requestId = this.nextRequest++;
    const answer = new Promise<ServiceBody>((resolve) => this.answers.set(requestId, resolve));
    this.socket!.send({ requestId, body });
    return answer;
  }

  /** The answer, which has to be of this kind. Throws RejectionError with the service's code for a refusal. */
  async demand<K extends ServiceBody["kind"]>(kind: K, body: ClientBody): Promise<BodyOf<K>> {
    const answer = await this.ask(body);
    if (answer.kind === "rejection") throw new RejectionError(answer.code);
    if (answer.kind !== kind) throw new Error(`${answer.kind} where ${kind} was expected`);
    return answer as BodyOf<K>;
  }

  /** The code of the refusal that this has to be answered with. */
  async refusalOf(body: ClientBody): Promise<string> {
    const answer = await this.ask(body);
    return answer.kind === "rejection" ? answer.code : `taken: ${answer.kind}`;
  }

  /** Log entries that were pushed, in the order in which they came. */
  get entries(): readonly GroupEntry[] {
    return this.pushed.flatMap((body) => (body.kind === "groupEntries" ? [...body.entries] : []));
  }

  /** The log as it is pushed, once it reaches this entry. */
  async entriesThrough(sequence: number): Promise<readonly GroupEntry[]> {
    await until(
      () => this.entries.some((entry) => entry.sequence >= sequence),
      20_000,
      `the log up to entry ${sequence}`,
    );
    return this.entries;
  }

  close(): void {
    this.socket?.close();
  }

  private receive({ requestId, body }: ServiceFrame): void {
    const answer = this.answers.get(requestId);
    this.answers.delete(requestId);
    if (answer !== undefined) answer(body);
    else this.pushed.push(body);
  }
}
