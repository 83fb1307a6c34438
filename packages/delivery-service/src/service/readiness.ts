import type { EngineName, EngineProbe } from "../ports/engine-probe.ts";
import type { Clock, Metrics } from "../ports/environment.ts";

/** An engine that has not answered by then is gone, as far as a client that waits is concerned. */
const DEADLINE_MS = 2_000;
/** An answer is good for so long: whoever asks for the health all the time costs the engines nothing. */
const FRESH_MS = 1_000;

/** Whether the engines answer: what a load balancer, an alarm and an operator want to know. */
export class Readiness {
  private readonly probes: readonly EngineProbe[];
  private readonly clock: Clock;
  private readonly metrics: Metrics;
  private asked: Promise<readonly EngineName[]> | undefined;
  /** Probes that have not been answered: an engine that hangs is not asked again and again. */
  private readonly waiting = new Map<EngineName, Promise<boolean>>();

  constructor(probes: readonly EngineProbe[], clock: Clock, metrics: Metrics) {
    this.probes = probes;
    this.clock = clock;
    this.metrics = metrics;
  }

  /** The engines that do not answer. Resolves within two seconds. */
  gone(): Promise<readonly EngineName[]> {
    this.asked ??= this.look();
    return this.asked;
  }

  private async look(): Promise<readonly EngineName[]> {
    const answers = await Promise.all(this.probes.map((probe) => this.within(this.ask(probe))));
    for (const [index, { name }] of this.probes.entries()) {
      this.metrics.gauge("engine_answers", Number(answers[index]), name);
    }
    this.clock.after(FRESH_MS, () => {
      this.asked = undefined;
    });
    return this.probes.filter((_, index) => !answers[index]).map(({ name }) => name);
  }

  private ask(probe: EngineProbe): Promise<boolean> {
    let answer = this.waiting.get(probe.name);
    if (answer === undefined) {
      answer = probe
        .ask()
        .then(
          () => true,
          () => false,
        )
        .finally(() => this.waiting.delete(probe.name));
      this.waiting.set(probe.name, answer);
    }
    return answer;
  }

  private within(answer: Promise<boolean>): Promise<boolean> {
    return new Promise((resolve) => {
      const cancel = this.clock.after(DEADLINE_MS, () => resolve(false));
      void answer.then((given) => {
        cancel();
        resolve(given);
      });
    });
  }
}
