/** A case of the `messages` format: every struct once, with contents that are valid in syntax alone. */
import { encode, keyPackageEncoder } from "ts-mls";
import type { MessagesCase } from "../formats.ts";
import { hex } from "./derivations.ts";
import { encodeMessage, GroupDriver, keyPackageMessage } from "./group-driver.ts";
import { uint, vector } from "./reference.ts";
import { concat } from "./suites.ts";

export async function messages(): Promise<MessagesCase[]> {
  const group = await GroupDriver.create(1, "messages", "alice");
  const { welcome, generated } = await group.add("alice", "bob", { ratchetTreeExtension: true });
  const { commit } = await group.commit("bob", { wireAsPublicMessage: true });
  const privateMessage = (await group.commit("alice")).commit;
  const { random } = group;
  const keyPackage = encode(keyPackageEncoder, generated.publicPackage);
  const pskId = concat(uint(1, 1), vector(random(8)), vector(random(32)));
  const extension = concat(uint(0x0a0a, 2), vector(random(5)));
  const reInit = concat(vector(random(16)), uint(1, 2), uint(1, 2), vector(extension));
  const remove = concat(uint(3, 2), uint(1, 4));
  const byValue = concat(uint(1, 1), remove);
  const byReference = concat(uint(2, 1), vector(random(32)));
  /** A PublicMessage of member 1; its signature and tag are of the right length only. */
  const publicMessage = (contentType: number, content: Uint8Array): Uint8Array => {
    const sender = concat(uint(1, 1), uint(1, 4));
    const framed = concat(vector(group.groupId), uint(9, 8), sender, vector(random(3)), uint(contentType, 1));
    return concat(uint(1, 2), uint(1, 2), framed, content, vector(random(64)), vector(random(32)));
  };
  const capabilities = [uint(1, 2), uint(1, 2), uint(0x0a0a, 2), uint(0x0a0a, 2), uint(1, 2)].map(vector);
  const credential = concat(uint(1, 2), vector(random(6)));
  const leaf = concat(
    ...[random(32), random(32)].map(vector),
    credential,
    ...capabilities,
    uint(2, 1),
    vector(extension),
    vector(random(64)),
  );
  return [
    {
      mls_welcome: hex(encodeMessage(welcome)),
      mls_group_info: hex(await group.groupInfoMessage("alice")),
      mls_key_package: hex(keyPackageMessage(generated)),
      ratchet_tree: hex(await group.encodedTree("alice")),
      group_secrets: hex(concat(vector(random(32)), uint(1, 1), vector(random(32)), vector(pskId))),
      add_proposal: hex(keyPackage),
      update_proposal: hex(leaf),
      remove_proposal: hex(uint(1, 4)),
      pre_shared_key_proposal: hex(pskId),
      re_init_proposal: hex(reInit),
      external_init_proposal: hex(vector(random(32))),
      group_context_extensions_proposal: hex(vector(extension)),
      commit: hex(concat(vector(concat(byValue, byReference)), uint(0, 1))),
      public_message_application: hex(publicMessage(1, vector(random(20)))),
      public_message_proposal: hex(publicMessage(2, remove)),
      public_message_commit: hex(commit),
      private_message: hex(privateMessage),
    },
  ];
}
