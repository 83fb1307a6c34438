import { type Bytes, formatId } from "@murmuration/base";
import type { Replacements } from "@murmuration/delivery-service";
import { decodeMlsMessage } from "@murmuration/mls-groups";
import type { PublicTraffic } from "../../../mls-groups/test/property/oracle/attacker.ts";

interface Epoch {
  readonly commit: Bytes | undefined;
  readonly welcome: Bytes | undefined;
  readonly groupInfo: Bytes;
}

/** Everything of communities that a service was given to store, by group and epoch: more than its database keeps. */
export class RecordedTraffic {
  private readonly epochs = new Map<string, Epoch[]>();
  private readonly messages = new Map<string, Bytes[]>();

  readonly replacements = (): Replacements => ({
    stores: (stores) => {
      const { mlsGroups } = stores;
      const recording: typeof mlsGroups = Object.assign(Object.create(mlsGroups) as typeof mlsGroups, {
        create: async (group: Parameters<typeof mlsGroups.create>[0]) => {
          const { groupId, groupInfo } = group;
          this.epochs.set(formatId(groupId), [{ commit: undefined, welcome: undefined, groupInfo }]);
          return mlsGroups.create(group);
        },
        appendCommit: async (append: Parameters<typeof mlsGroups.appendCommit>[0]) => {
          const { groupId, commit, groupInfo, welcomes } = append;
          const outcome = await mlsGroups.appendCommit(append);
          if (outcome.kind === "appended")
            this.epochs.get(formatId(groupId))!.push({ commit, welcome: welcomes[0]?.welcome, groupInfo });
          return outcome;
        },
        appendMessage: async (append: Parameters<typeof mlsGroups.appendMessage>[0]) => {
          const key = formatId(append.groupId);
          this.messages.set(key, [...(this.messages.get(key) ?? []), append.message]);
          return mlsGroups.appendMessage(append);
        },
      });
      return { ...stores, mlsGroups: recording };
    },
  });

  /** The group's past, epoch by epoch, as the removed-member oracle wants it. */
  of(id: string, leafSlots: number): readonly PublicTraffic[] {
    const said = this.messages.get(id) ?? [];
    return (this.epochs.get(id) ?? []).map((epoch, number) => ({
      ...epoch,
      leafSlots,
      applicationMessages: said.filter((message) => epochOf(message) === number),
    }));
  }
}

function epochOf(message: Bytes): number {
  const decoded = decodeMlsMessage(message);
  return decoded.wireFormat === "mls_private_message" ? Number(decoded.privateMessage.epoch) : -1;
}
