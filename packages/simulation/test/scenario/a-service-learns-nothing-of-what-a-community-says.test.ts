/**
 * After a community's life the service's disk, log and metrics are searched for what it must not know. What it may know,
 * and what is found: the id of the group, account ids and identity keys in the credentials of leaves, who commits and
 * who is added or removed, roles and settings, ids and public keys of links, hashes of banned accounts.
 */
import { copyFileSync, existsSync, readFileSync } from "node:fs";
import { fromBase64Url, parseAccountId, utf8 } from "@murmuration/base";
import { expect, test } from "vitest";
import { parseInviteLink } from "../../../client-core/src/core/invite-link.ts";
import { type Haystack, type Needle, scan } from "../../../delivery-service/test/support/leak-scan.ts";
import { until, World } from "../../src/index.ts";
import { allShow, flockOf, inGroup, newcomer, talkRound } from "../support/flock.ts";
import { Outlaw } from "../support/outlaw.ts";
import { storedLog } from "../support/service-rows.ts";

const TITLE = "Lighthouse keepers of the northern coast";
const DESCRIPTION = "Where the ledger is kept and who may read it";
const TEXT = "meet me at the old lighthouse at nine";
const NAMES = ["Alexandra Meridian", "Bartholomew Quill", "Cassiopeia Thornbury", "Dorothea Wexford"];

/** Everything that the service has written, while it runs: its write-ahead log is full. */
async function haystacks(world: World, log: readonly string[]): Promise<Haystack[]> {
  const database = `${world.serviceDirectory}/delivery-service.sqlite`;
  const files = ["", "-wal"].filter((suffix) => existsSync(database + suffix));
  expect(files).toContain("-wal");
  const copy = `${world.directory}/copy`;
  const metrics = await (await fetch(`${world.origin}/metrics`)).text();
  return [
    ...files.map((suffix) => {
      copyFileSync(database + suffix, copy);
      return { name: `database${suffix}`, bytes: readFileSync(copy) };
    }),
    { name: "log", bytes: utf8(log.join("\n")) },
    { name: "metrics", bytes: utf8(metrics) },
  ];
}

const texts = (name: string, ...values: readonly string[]): Needle[] =>
  values.map((value) => ({ name: `${name}: ${value}`, bytes: utf8(value) }));

test("database, write-ahead log, log and metrics hold no text, title, description, name or link secret", async () => {
  const log: string[] = [];
  const written = (level: string) => (message: string, fields?: object) => {
    log.push(`${level} ${message} ${JSON.stringify(fields ?? {})}`);
  };
  await using world = await World.start({
    replacements: () => ({
      log: { info: written("info"), warn: written("warn"), error: written("error") },
    }),
  });
  const [alice, bob, carol, dave] = [
    await newcomer(world, NAMES[0]!),
    await newcomer(world, NAMES[1]!),
    await newcomer(world, NAMES[2]!),
    await newcomer(world, NAMES[3]!),
  ];
  const group = await flockOf(alice, bob, carol);
  await group.setTitle(TITLE);
  await group.community.setDescription(DESCRIPTION);
  const { url = "" } = await group.community.createLink();
  await dave.client.conversations.join(url);
  await talkRound([alice, bob, carol, dave], group.id, TEXT);
  await group.community.ban(carol.id);
  await group.remove(bob.id);
  await inGroup(dave, group.id)!.send({ text: `${TEXT}, without them` });
  await allShow([alice], group.id, `${TEXT}, without them`);
  await until(() => storedLog(world, group.id).length > 10);

  const { seed, linkId } = parseInviteLink(url);
  const secrets = (): Needle[] => [
    ...texts("plaintext", TEXT),
    ...texts("title", TITLE, "Lighthouse keepers"),
    ...texts("description", DESCRIPTION),
    ...texts(
      "name",
      ...NAMES,
      ...NAMES.flatMap((name) => name.split(" ")).filter((name) => name.length >= 8),
    ),
    { name: "link seed", bytes: seed },
    { name: "link", bytes: fromBase64Url(url.slice(url.indexOf("#") + 1)) },
    { name: "leaf key", bytes: new Outlaw(alice, world.origin).identity.signatureKeys.privateKey },
  ];
  const account: Needle = { name: "account id", bytes: parseAccountId(alice.id) };
  const stored = await haystacks(world, log);
  expect(log.length).toBeGreaterThan(0);
  expect(scan(stored, secrets())).toEqual([]);

  // What it may know is found where it may be; log and metrics hold no identifier at all.
  const groupNeedle: Needle = { name: "group id", bytes: parseInviteLink(url).groupId };
  for (const needle of [account, groupNeedle, { name: "link id", bytes: linkId }]) {
    const places = scan(stored, [needle]).map(({ haystack }) => haystack);
    expect(places.length, needle.name).toBeGreaterThan(0);
    for (const place of places) expect(place).toMatch(/^database/);
  }

  // Planted leaks are found, in whatever form they come.
  const leaks = [
    utf8(`title=${TITLE}`),
    Buffer.from(TEXT, "utf16le"),
    utf8(`x${Buffer.from(seed).toString("hex")}`),
    utf8(Buffer.from(`..${NAMES[1]}`).toString("base64")),
    utf8(Buffer.from(`.${DESCRIPTION}`).toString("base64url")),
  ];
  for (const [index, leak] of leaks.entries()) {
    const bytes = Buffer.concat([stored[0]!.bytes, leak]);
    expect(scan([{ name: `planted ${index}`, bytes }], secrets()).length, `leak ${index}`).toBeGreaterThan(0);
  }
});
