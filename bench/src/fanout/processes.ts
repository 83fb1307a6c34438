/** The three processes of the fan-out: the sender's, the service's, the receivers'. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { WorkerLink } from "../worker-link.ts";
import type { OpenedSender } from "./protocols.ts";

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
    // The one waits for the disk and the other computes: side by side, since neither is measured.
    const [opened] = await Promise.all([
      this.sender.request<OpenedSender>("open", { seed, recipients }),
      this.service.request("open", { directory, seed, recipients }),
    ]);
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
