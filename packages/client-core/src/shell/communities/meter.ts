/** What communities cost, counted where it is spent: for benchmarks and the demo. */
import type { CommunityCosts, Environment } from "../../api.ts";

export class Meter implements CommunityCosts {
  commitsCreated = 0;
  commitBytes = 0;
  commitCreateCpuUs = 0;
  commitsReceived = 0;
  commitReceiveCpuUs = 0;
  welcomes = 0;
  welcomeBytes = 0;
  verifiedLeaves = 0;
  refusedSubmits = 0;
  unreadable = 0;
  refusedCommits = 0;
  rejoins = 0;
  private readonly cpuUs: () => number;

  constructor(environment: Environment) {
    this.cpuUs = () => environment.cpuUs?.() ?? 0;
  }

  /** Runs synchronous work and adds its CPU time to a total. */
  time<T>(total: "commitCreateCpuUs" | "commitReceiveCpuUs", work: () => T): T {
    const before = this.cpuUs();
    try {
      return work();
    } finally {
      this[total] += this.cpuUs() - before;
    }
  }
}
