import { FanoutProcesses } from "./fanout/processes.ts";
import { MlsMembership, newcomersOf } from "./membership/mls.ts";

const members = Number(process.argv[2]);
const p = new FanoutProcesses("s", () => {});
try {
  await p.open(members + newcomersOf(2));
  for (const protocol of ["mls-warm", "mls-cold"] as const)
    console.table(await new MlsMembership(p, protocol, members).run(2, console.log));
} catch (e) {
  console.log(e);
} finally {
  p.stop();
}
