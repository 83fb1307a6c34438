import { utf8 } from "@murmuration/base";
import type { IdentityChoice } from "@murmuration/client-core";
import { type Options, WrongUsage } from "../arguments.ts";
import { type Command, jsonOption, settle, waitOption } from "../command.ts";
import { CommandFailed } from "../failures.ts";
import { findAccount } from "../lookup.ts";
import { formatSafetyNumber, json, printable } from "../output.ts";
import { createProfile, withClient } from "../profile.ts";

export const register: Command = {
  path: ["register"],
  summary: "Creates an account with this as its first device.",
  operands: [],
  options: {
    server: { value: "URL", help: "the delivery service (default: http://127.0.0.1:8080)" },
    name: { value: "NAME", help: "how you appear to others" },
    "invite-code": { value: "CODE", help: "where the delivery service asks for one" },
    ...jsonOption,
  },
  notes:
    "Prints the contact card: hand it to people who should be able to write to you. When the service cannot be\n" +
    "reached, run it again: it goes on with the keys that were made.",
  async run(context) {
    const { options, print } = context;
    await createProfile(context);
    return withClient(context, async (client) => {
      if (client.account !== undefined) throw new CommandFailed("This home folder holds an account already.");
      const name = options.text("name");
      const code = options.text("invite-code");
      const account = await client.register({
        ...(name === undefined ? {} : { name }),
        ...(code === undefined ? {} : { inviteCode: utf8(code) }),
      });
      if (options.flag("json")) print(json(account));
      else {
        print(`account      ${account.accountId}`);
        print(`contact card ${account.contactCard}`);
      }
      return 0;
    });
  },
};

export const whoami: Command = {
  path: ["whoami"],
  summary: "Shows this account, its device, and its contact card.",
  operands: [],
  options: { ...jsonOption },
  async run(context) {
    const { options, print } = context;
    return withClient(context, async (client, { server }) => {
      const { account } = client;
      if (account === undefined)
        throw new CommandFailed("There is no account here yet; see murmuration register.");
      if (options.flag("json")) print(json({ ...account, server, outbox: client.outbox.waiting }));
      else {
        print(`name         ${printable(account.name)}`);
        print(`account      ${account.accountId}`);
        print(`device       ${account.deviceId}`);
        print(`server       ${server}`);
        print(`outbox       ${client.outbox.waiting} waiting`);
        print(`contact card ${account.contactCard}`);
      }
      return 0;
    });
  },
};

function choiceOf(options: Options): IdentityChoice | undefined {
  const compared = options.text("accept-new-key");
  const keepsOld = options.flag("keep-old-key");
  if (compared !== undefined && keepsOld)
    throw new WrongUsage("Only one of --accept-new-key and --keep-old-key.");
  if (compared !== undefined) return { keep: "claimed", safetyNumber: compared.replace(/\s/g, "") };
  return keepsOld ? { keep: "known" } : undefined;
}

export const safetyNumber: Command = {
  path: ["safety-number"],
  summary: "Shows the safety number with a contact: compare it over another channel.",
  operands: [{ name: "CONTACT" }],
  options: {
    "mark-verified": { help: "remember that it was compared and is equal" },
    "accept-new-key": {
      value: "NUMBER",
      help: "go on with the identity key that is shown now, if this is its safety number",
    },
    "keep-old-key": { help: "go on with the identity key that was known before" },
    ...jsonOption,
    ...waitOption,
  },
  notes:
    "60 digits, the same on both sides. They change only when one of the accounts is created anew. Where the delivery\n" +
    "service shows another identity key than before nothing is sent until one of the two is chosen: have the contact\n" +
    "read its number to you over another channel.",
  async run(context) {
    const { options, operands, print } = context;
    const choice = choiceOf(options);
    return withClient(context, async (client) => {
      const account = findAccount(client, operands[0]!);
      if (choice !== undefined) await client.contacts.decideIdentity(account, choice);
      const digits = await client.contacts.safetyNumber(account);
      if (options.flag("mark-verified")) await client.contacts.setVerified(account, true);
      const verified = client.contacts.get(account)?.verified === true;
      const claimed = client.contacts.claimedSafetyNumber(account);
      if (options.flag("json")) print(json({ accountId: account, digits, verified, claimed }));
      else {
        print(formatSafetyNumber(digits));
        print(verified ? "verified" : "not verified yet");
        if (claimed !== undefined)
          print(`another key is shown now, and not accepted:\n${formatSafetyNumber(claimed)}`);
      }
      // What had waited for it goes now.
      if (choice !== undefined) await settle(client, context);
      return 0;
    });
  },
};
