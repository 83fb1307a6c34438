import { accountId, type DeviceId, fromHex, toHex } from "@murmuration/base";
import { openSqliteStores } from "../../src/adapters/sqlite-stores.ts";

// A process of its own that claims KeyPackages of one device until there are no more, and says which it got.
const [directory, account, usableUntilMs] = process.argv.slice(2) as [string, string, string];
const stores = openSqliteStores(directory);
const owner = { accountId: accountId(fromHex(account)), deviceId: 1 as DeviceId };
process.on("message", async () => {
  const claimed: string[] = [];
  for (;;) {
    const claims = await Promise.all(
      [1, 2, 3].map(() => stores.keyPackages.claim(owner, true, Number(usableUntilMs))),
    );
    claimed.push(...claims.flatMap((claim) => (claim === undefined ? [] : [toHex(claim.message)])));
    if (claims.includes(undefined)) break;
  }
  await stores.close();
  process.send!(claimed, () => process.disconnect());
});
process.send!("ready");
