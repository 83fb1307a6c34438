import type { Command } from "../command.ts";
import { register, safetyNumber, whoami } from "./account.ts";
import { adminGroups, adminKeyPackages, adminRetention } from "./admin.ts";
import { chat } from "./chat.ts";
import {
  banFromGroup,
  groupLink,
  groupSettings,
  healGroup,
  joinByLink,
  joinRequests,
  pins,
  setRole,
  shareHistory,
} from "./communities.ts";
import {
  acceptRequest,
  addContact,
  blockContact,
  contacts,
  declineRequest,
  unblockContact,
} from "./contacts.ts";
import { demo } from "./demo.ts";
import { doctor } from "./doctor.ts";
import { exportAll } from "./export.ts";
import { addToGroup, createGroup, leaveGroup, listGroups, listMembers, removeFromGroup } from "./groups.ts";
import { history, listen, send } from "./messages.ts";
import { migration } from "./migration.ts";
import { mute } from "./mute.ts";
import { pushBy, pushOff, pushOn, pushStatus } from "./push.ts";
import { serve } from "./serve.ts";

/** Every command; of two that fit, the longer path comes first. */
export const commands: readonly Command[] = [
  serve,
  doctor,
  adminGroups,
  adminKeyPackages,
  adminRetention,
  register,
  whoami,
  addContact,
  acceptRequest,
  declineRequest,
  blockContact,
  unblockContact,
  contacts,
  safetyNumber,
  createGroup,
  addToGroup,
  removeFromGroup,
  leaveGroup,
  listGroups,
  listMembers,
  setRole,
  banFromGroup,
  groupLink,
  groupSettings,
  migration,
  healGroup,
  shareHistory,
  pins,
  joinRequests,
  joinByLink,
  mute,
  pushOn,
  pushOff,
  pushBy,
  pushStatus,
  send,
  listen,
  history,
  chat,
  exportAll,
  demo,
];
