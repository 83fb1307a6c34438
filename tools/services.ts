/** `npm run services`: PostgreSQL and Redis for development and for the cluster's tests. */
import { parseArgs } from "node:util";
import { installServices, startServices, stopServices } from "@murmuration/delivery-service/local-engines";

const HELP = `npm run services [-- OPTIONS]

Starts PostgreSQL on port 5432 and Redis on port 6379 of this machine and leaves them running; what answers there
already is used as it is. Prints the URLs. Data are kept between starts.

  --install   installs what is missing from the distribution's packages (root, apt)
  --stop      ends what this command started
  --forget    with --stop: deletes its data as well
  --help      this text

Engines elsewhere: set MURMURATION_POSTGRES_URL and MURMURATION_REDIS_URL instead.`;

const say = (line: string) => console.error(line);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      install: { type: "boolean", default: false },
      stop: { type: "boolean", default: false },
      forget: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  if (values.stop) {
    say(`ended ${await stopServices(values.forget)} of 2`);
    return;
  }
  if (values.install) await installServices(say);
  const urls = await startServices(say);
  console.log(`MURMURATION_POSTGRES_URL=${urls.postgres}\nMURMURATION_REDIS_URL=${urls.redis}`);
}

main().catch((error: unknown) => {
  const isUsage = error instanceof TypeError && "code" in error;
  say(error instanceof Error ? error.message : String(error));
  process.exitCode = isUsage ? 2 : 1;
});
