/** What a connection that does nothing keeps in the service's memory. */
import type { CommunityFile } from "../fanout/community.ts";
import type { WorkerLink } from "../worker-link.ts";
import type { Plan } from "./plan.ts";
import type { IdleTask, ReadersTask } from "./reader-worker.ts";
import type { MemoryResult } from "./report.ts";
import { communityOf, leafKeysOf, type ServiceOptions, ServiceUnderTest } from "./service.ts";
import { cutAll, type Running, shares } from "./workers.ts";

type Kind = MemoryResult["kind"];
interface Task {
  readonly name: "idle" | "readers";
  readonly task: IdleTask | ReadersTask;
}

/** Each kind in a service of its own: memory that was freed is not given back to the kernel. */
export async function measureMemory(
  seed: string,
  plan: Plan,
  options: ServiceOptions,
  running: Running,
): Promise<MemoryResult[]> {
  const community = communityOf(seed, "idle", plan.idle + 1);
  const results: MemoryResult[] = [];
  for (const kind of plan.idleKinds) {
    const service = await ServiceUnderTest.start(options);
    const stopService = running.add(() => service.stop());
    const links = running.readers(plan.processes);
    try {
      const tasks = await tasksOf(kind, service, seed, community);
      // The first one comes before: what is loaded once belongs to no connection.
      await ask(links[0]!, tasks(0, 1));
      const before = await service.memory();
      const parts = shares(
        Array.from({ length: plan.idle }, (_, i) => i + 1),
        links.length,
      );
      await Promise.all(links.map((link, i) => ask(link, tasks(parts[i]![0]!, parts[i]!.length))));
      const after = await service.memory();
      results.push({
        kind,
        connections: plan.idle,
        residentBytesPerConnection: (after.residentBytes - before.residentBytes) / plan.idle,
        heapBytesPerConnection: (after.heapBytes - before.heapBytes) / plan.idle,
      });
    } finally {
      await cutAll(links);
      await service.end();
      await stopService();
    }
  }
  return results;
}

const ask = (link: WorkerLink, { name, task }: Task): Promise<void> => link.request(name, task);

/** Prepares the service for one kind; what is returned opens so many connections from the first on. */
async function tasksOf(
  kind: Kind,
  service: ServiceUnderTest,
  seed: string,
  community: CommunityFile,
): Promise<(first: number, count: number) => Task> {
  const { port } = service;
  if (kind === "reader of a group") {
    const place = await service.store(community);
    const leaves = leafKeysOf(community);
    return (first, count) => ({
      name: "readers",
      task: { port, place, leaves: leaves.slice(first, first + count) },
    });
  }
  if (kind === "mailbox of a device") await service.accounts({ seed, first: 0, count: community.members });
  const of = kind === "said Hello" ? "anonymous" : "device";
  return (first, count) => ({ name: "idle", task: { port, kind: of, seed, first, count } });
}
