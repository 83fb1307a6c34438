/** What the kernel says of a process: the same for ours and for servers of others. Linux. */
import { readFileSync } from "node:fs";

/** Of the clock ticks in /proc (sysconf(_SC_CLK_TCK)): 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
/** Fields of /proc/PID/stat behind the command, which may hold spaces: utime and stime (proc(5)). */
const UTIME = 11;
const STIME = 12;

/** Milliseconds of a clock that all processes of this machine share and nobody sets. */
export function nowMs(): number {
  return Number(process.hrtime.bigint()) / 1e6;
}

/** CPU that a process has taken, all threads, user and system, in seconds; steps of 10 ms. */
export function cpuSeconds(pid: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
  const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
  return (Number(fields[UTIME]) + Number(fields[STIME])) / TICKS_PER_SECOND;
}

/** Resident memory of a process, bytes. What the kernel buffers for its sockets is not in it. */
export function residentBytes(pid: number): number {
  const line = /^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, "latin1"));
  return Number(line?.[1] ?? 0) * 1024;
}

/** How many files a process may open at most. Node raises its own limit to it, and its children inherit that. */
export function openFilesLimit(): number {
  const line = /^Max open files\s+\S+\s+(\S+)/m.exec(readFileSync("/proc/self/limits", "latin1"));
  return line?.[1] === "unlimited" ? Number.POSITIVE_INFINITY : Number(line?.[1] ?? 1024);
}
