/** The three processes of the fan-out: the sender's, the service's, the receivers'. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Bytes } from "@murmuration/base";
import { WorkerLink } from "../worker-link.ts";
import type { OpenedSender } from "./protocols.ts";
import { halvesOf, type SessionsTask } from "./sessions.ts";

export class FanoutProcesses {
  readonly seed: string;
  readonly sender: WorkerLink;
  readonly service: WorkerLink;
  readonly receivers: WorkerLink;
  private readonly folder = mkdtempSync(join(tmpdir(), "murmuration-bench-"));
  private named = 0;

  constructor(seed: string, show: (what: string) => void) {
    this.seed = seed;
    const worker = (name: string) => new WorkerLink(new URL(`./${name}-worker.ts`, import.meta.url), name);
    this.sender = worker("sender");
    this.service = worker("service");
    this.receivers = worker("receiver");
    for (const link of [this.sender, this.service]) link.onNote = (text) => show(`preparing: ${text}`);
  }

  /** Registers so many accounts beside the sender's and makes its sessions with them. */
  async open(recipients: number): Promise<void> {
    const { seed } = this;
    const directory = this.path("service");
    const path = this.path("sessions");
    const identity = await this.sender.request<Bytes>("identity", { seed });
    const [own, others] = halvesOf(recipients);
    // Side by side, since none of it is measured.
    await Promise.all([
      this.sender.request("sessions", own),
      this.receivers.request("sessions", { seed, identity, range: others, path } satisfies SessionsTask),
      this.service.request("open", { directory, seed, recipients }),
    ]);
    const opened = await this.sender.request<OpenedSender>("open", { others: path });
    await this.receivers.request("open", { seed, opened });
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  /** A name that nothing else in this run has. */
  nextName(): string {
    return `${this.seed}/${this.named++}`;
  }

  stop(): void {
    for (const link of [this.sender, this.service, this.receivers]) link.stop();
    rmSync(this.folder, { recursive: true, force: true });
  }
}
