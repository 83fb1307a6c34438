import { mkdirSync, readdirSync, rmSync, statfsSync } from "node:fs";
import { join } from "node:path";

const PREFIX = "murmuration-tests-";
/** What the databases of all tests that run at one time take, several times over. */
const ROOM_BYTES = 4 * 1024 ** 3;

/**
 * A folder for what tests write, in memory where the machine has room there; undefined where it has not. Databases wait for
 * the disk with most of their transactions. In tests processes are killed and the power never fails, so that this shows
 * nothing, and is a tenth of their time. Folders of runs that were killed are removed. It lives until this process ends.
 * PostgreSQL, which does not run as root, has to get at what is its own in it.
 */
export function folderInMemory(memory = "/dev/shm"): string | undefined {
  try {
    for (const name of readdirSync(memory)) {
      const [, processId] = new RegExp(`^${PREFIX}(\\d+)$`).exec(name) ?? [];
      if (processId !== undefined && !isAlive(Number(processId))) remove(join(memory, name));
    }
    const { bavail, bsize } = statfsSync(memory);
    if (bavail * bsize < ROOM_BYTES) return undefined;
    const folder = join(memory, `${PREFIX}${process.pid}`);
    mkdirSync(folder, { recursive: true, mode: 0o711 });
    process.once("exit", () => remove(folder));
    return folder;
  } catch {
    return undefined;
  }
}

const remove = (folder: string): void => rmSync(folder, { recursive: true, force: true });

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
