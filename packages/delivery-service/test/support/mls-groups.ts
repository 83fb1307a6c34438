import { accountId, type DeviceAddress, type DeviceId, type GroupId, groupId } from "@murmuration/base";
import type {
  AppendCommit,
  AppendMessage,
  LogEntry,
  MlsGroupStore,
  NewMlsGroup,
} from "../../src/ports/mls-groups.ts";
import { random } from "./random.ts";

export const NOW = 1_800_000_000_000;
export const DAY = Math.floor(NOW / 86_400_000);
export const ALL = { maxEntries: 10_000, maxBytes: 100_000_000 };

export const newGroup = (given: Partial<NewMlsGroup> = {}): NewMlsGroup => ({
  groupId: groupId(random(16)),
  epoch: 0,
  groupInfo: random(120),
  treeHash: random(32),
  tree: random(200),
  day: DAY,
  ...given,
});

export const messageTo = (
  group: GroupId,
  epoch: number,
  given: Partial<AppendMessage> = {},
): AppendMessage => ({
  groupId: group,
  submitHash: random(32),
  message: random(60),
  epoch,
  epochsBehind: 4,
  acceptedAtMs: NOW,
  ...given,
});

export const commitFrom = (
  group: GroupId,
  fromEpoch: number,
  given: Partial<AppendCommit> = {},
): AppendCommit => ({
  groupId: group,
  fromEpoch,
  commitHash: random(32),
  proposals: [],
  commit: random(80),
  groupInfo: random(120),
  treeHash: random(32),
  treeDelta: random(40),
  banList: undefined,
  removed: [],
  listed: [],
  leafReplaced: false,
  welcomes: [],
  acceptedAtMs: NOW,
  ...given,
});

export const newDevice = (): DeviceAddress => ({
  accountId: accountId(random(16)),
  deviceId: 1 as DeviceId,
});

export const wholeLog = (store: MlsGroupStore, group: GroupId): Promise<readonly LogEntry[]> =>
  store.read(group, 0, Number.MAX_SAFE_INTEGER, ALL);
