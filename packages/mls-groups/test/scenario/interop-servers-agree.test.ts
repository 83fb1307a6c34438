import { credentials } from "@grpc/grpc-js";
import { utf8 } from "@murmuration/base";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type InteropServer, interopService, startInteropServer } from "../interop/server.ts";
import type { Message, MethodName, methods, Request, Response } from "../interop/service-definition.ts";

type Answer<M extends MethodName> = Message<(typeof methods)[M][1]>;

/** A client of one server, as the working group's runner is. */
class Remote {
  private readonly client: InstanceType<ReturnType<typeof interopService>>;
  constructor(port: number) {
    this.client = new (interopService())(`127.0.0.1:${port}`, credentials.createInsecure());
  }

  call<M extends MethodName>(method: M, request: Partial<Request<M>>): Promise<Answer<M>> {
    type Unary = (
      request: object,
      answer: (error: Error | null, response: Answer<M> & Response<M>) => void,
    ) => void;
    const unary = (this.client as unknown as Record<M, Unary>)[method].bind(this.client);
    return new Promise((resolve, reject) =>
      unary(request, (error, response) => (error === null ? resolve(response) : reject(error))),
    );
  }

  close(): void {
    this.client.close();
  }
}

let servers: InteropServer[];
let [alice, bob]: Remote[] = [];
beforeAll(async () => {
  servers = [await startInteropServer(0, { reload: false }), await startInteropServer(0, { reload: true })];
  [alice, bob] = servers.map(({ port }) => new Remote(port));
});
afterAll(() => {
  alice!.close();
  bob!.close();
  for (const server of servers) server.close();
});

const name = (text: string): Buffer => Buffer.from(utf8(text));

/** Alice's group on the first server with Bob on the second, who loads it from storage before each call. */
async function groupOfTwo(suite: number, encrypt: boolean) {
  const common = { cipher_suite: suite, encrypt_handshake: encrypt };
  const created = await alice!.call("CreateGroup", {
    ...common,
    group_id: name("g"),
    identity: name("alice"),
  });
  const joiner = await bob!.call("CreateKeyPackage", { cipher_suite: suite, identity: name("bob") });
  const add = { proposal_type: name("add"), key_package: joiner.key_package };
  const committed = await alice!.call("Commit", {
    state_id: created.state_id,
    by_value: [add as Message<"ProposalDescription">],
  });
  const merged = await alice!.call("HandlePendingCommit", { state_id: created.state_id });
  const joined = await bob!.call("JoinGroup", {
    ...common,
    transaction_id: joiner.transaction_id,
    welcome: committed.welcome,
    identity: name("bob"),
  });
  expect(joined.epoch_authenticator).toEqual(merged.epoch_authenticator);
  return { a: merged.state_id, b: joined.state_id };
}

describe("two interop servers", () => {
  test.each([
    [1, false],
    [1, true],
    [2, true],
    [7, false],
  ])("form a group of suite %i (handshakes encrypted: %s) and read each other", async (suite, encrypt) => {
    const { a, b } = await groupOfTwo(suite, encrypt);
    const [plaintext, authenticated_data] = [name("hello"), name("by the way")];
    const { ciphertext } = await alice!.call("Protect", { state_id: a, plaintext, authenticated_data });
    expect(await bob!.call("Unprotect", { state_id: b, ciphertext })).toEqual({
      plaintext,
      authenticated_data,
    });
    const asked = { label: "label", context: name("context"), key_length: 40 };
    const exported = await alice!.call("Export", { ...asked, state_id: a });
    expect(await bob!.call("Export", { ...asked, state_id: b })).toEqual(exported);
  });

  test("agree after a commit that covers an Update by reference", async () => {
    const { a, b } = await groupOfTwo(1, true);
    const { proposal } = await bob!.call("UpdateProposal", { state_id: b });
    const { commit } = await alice!.call("Commit", { state_id: a, by_reference: [proposal] });
    const merged = await alice!.call("HandlePendingCommit", { state_id: a });
    const handled = await bob!.call("HandleCommit", { state_id: b, proposal: [proposal], commit });
    expect(handled.epoch_authenticator).toEqual(merged.epoch_authenticator);
  });

  test("let a member come back by an external commit that removes its former leaf", async () => {
    const { a } = await groupOfTwo(1, false);
    const info = await alice!.call("GroupInfo", { state_id: a, external_tree: true });
    const back = await bob!.call("ExternalJoin", { ...info, identity: name("bob"), remove_prior: true });
    const handled = await alice!.call("HandleCommit", { state_id: a, commit: back.commit });
    expect(handled.epoch_authenticator).toEqual(back.epoch_authenticator);
    const after = await alice!.call("GroupInfo", { state_id: a, external_tree: true });
    expect(after.ratchet_tree.length).toBeLessThan(info.ratchet_tree.length * 1.5);
  });

  test("continue a group by ReInit with another cipher suite", async () => {
    const { a, b } = await groupOfTwo(1, false);
    const reinit = { state_id: a, cipher_suite: 3, group_id: name("g2") };
    const { proposal } = await alice!.call("ReInitProposal", reinit);
    const { commit } = await alice!.call("ReInitCommit", { state_id: a, by_reference: [proposal] });
    const mine = await alice!.call("HandlePendingReInitCommit", { state_id: a });
    const theirs = await bob!.call("HandleReInitCommit", { state_id: b, proposal: [proposal], commit });
    expect(theirs.epoch_authenticator).toEqual(mine.epoch_authenticator);
    const made = await alice!.call("ReInitWelcome", {
      reinit_id: mine.reinit_id,
      key_package: [theirs.key_package],
    });
    const joined = await bob!.call("HandleReInitWelcome", {
      reinit_id: theirs.reinit_id,
      welcome: made.welcome,
    });
    expect(joined.epoch_authenticator).toEqual(made.epoch_authenticator);
  });

  test("answer what they cannot do with an error and go on", async () => {
    await expect(alice!.call("StateAuth", { state_id: 9999 })).rejects.toThrow(/StateAuth: unknown state/);
    const { a, b } = await groupOfTwo(1, false);
    const { ciphertext } = await alice!.call("Protect", { state_id: a, plaintext: name("x") });
    ciphertext[ciphertext.length - 1]! ^= 1;
    await expect(bob!.call("Unprotect", { state_id: b, ciphertext })).rejects.toThrow(
      /mls\/decryption-failed/,
    );
    const again = await alice!.call("Protect", { state_id: a, plaintext: name("y") });
    const opened = await bob!.call("Unprotect", { state_id: b, ciphertext: again.ciphertext });
    expect(opened.plaintext).toEqual(name("y"));
  });
});
