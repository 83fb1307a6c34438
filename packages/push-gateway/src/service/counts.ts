/** What the gateway counts: wake-ups asked for, requests to push services, refused requests. */
type CountName = "wakes" | "pushes" | "rejections";

const HELP: Readonly<Record<CountName, string>> = {
  wakes: "Wake-ups asked for, by what became of them",
  pushes: "Requests to push services, by service and outcome",
  rejections: "Refused requests, by code",
};

/** Counters in Prometheus's text format. Labels are codes out of fixed sets. */
export class Counts {
  private readonly counts = new Map<CountName, Map<string, number>>();

  add(name: CountName, label: string, by = 1): void {
    const labels = this.counts.get(name) ?? new Map<string, number>();
    this.counts.set(name, labels.set(label, (labels.get(label) ?? 0) + by));
  }

  get(name: CountName, label: string): number {
    return this.counts.get(name)?.get(label) ?? 0;
  }

  /** With the number of tokens that are stored. */
  render(tokens: number): string {
    const lines = ["# HELP push_gateway_tokens Push tokens stored", "# TYPE push_gateway_tokens gauge"];
    lines.push(`push_gateway_tokens ${tokens}`);
    for (const name of Object.keys(HELP) as CountName[]) {
      lines.push(
        `# HELP push_gateway_${name}_total ${HELP[name]}`,
        `# TYPE push_gateway_${name}_total counter`,
      );
      for (const [label, count] of this.counts.get(name) ?? []) {
        lines.push(`push_gateway_${name}_total{label="${label}"} ${count}`);
      }
    }
    return `${lines.join("\n")}\n`;
  }
}
