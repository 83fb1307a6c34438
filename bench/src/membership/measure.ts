/** The membership section: every protocol at every size, one after the other. */
import type { FanoutProcesses } from "../fanout/processes.ts";
import {
  type MembershipRow,
  type MembershipSection,
  membershipOperations,
  protocols,
} from "../report/schema.ts";
import { ADDED_AT_ONCE, LEAST_MEMBERS, MlsMembership, MOST_CREATED, newcomersOf } from "./mls.ts";
import { migrationRow, pairwiseMembership, senderKeyMembership } from "./pairwise.ts";

/** Larger groups are measured once, and spared what nothing else in the report is computed from. */
const FEW_RUNS_FROM = 1_001;
const runsOf = (members: number, quick: boolean): number => (quick || members >= FEW_RUNS_FROM ? 1 : 2);

/** Accounts beside the sender's that groups of this size need. */
export function recipientsFor(members: number): number {
  return members + newcomersOf(3);
}

const membershipDefinitions: readonly string[] = [
  `Groups have the stated size before the operation; add-1 and remove-1 follow each other, so a removal finds one member more. add-k adds ${ADDED_AT_ONCE}. Smaller groups than ${LEAST_MEMBERS} are not measured.`,
  "MLS: real commits of a community in Murmuration's form (credentials of 212 bytes), validated by the service's follower, stored with GroupInfo and tree delta, and followed by real members; leaf 0, the owner, commits, with a path. The Welcome and the whole tree, compressed as the service serves it, are what a newcomer receives; join is by invite link and rejoin by a member that lost its state, both by external commit, and what they fetch and send themselves is in senderBytes and newcomerBytes. Members run the engine's checks without those of identities. Claiming KeyPackages is not in it. No member is asked to warm the tree.",
  "mls-cold: all parent nodes are blank but for those that leaf 0's own commits fill; join and rejoin find a tree in which nobody else has committed.",
  `create and migrate are measured up to ${MOST_CREATED} members: one commit adds no more than 256, and pairwise groups are no larger. migrate is everything that moves a pairwise group: creating the MLS group with everybody, a switching commit with a path (its PSK proposal, about 60 bytes, left out), two control messages to everybody, and four changes of the record that everybody reads; each of these parts is measured at this size, and the row is their sum.`,
  "pairwise and pairwise-sealed: a signed change, the whole record sealed and written again, one control message of 160 bytes to everybody (two for a removal: the new group key first), and every member reading and verifying the record. Without HTTP headers and the service's check of signed challenges. Beyond 255 members Murmuration has no such group; the same code was measured, add-1 and remove-1 only.",
  "sender-key-sealed: only what ONE sender does beside that: its sender key to a newcomer, or a new one to everybody who stays after a removal, sealed to each. Every member that sends has to do it.",
];

const NO_SUCH_MLS: Readonly<Record<string, string>> = {
  "create mls-warm": "a new group has a cold tree; what warms it are its members' commits",
  "migrate mls-warm": "the group that it moves to is new, so its tree is cold",
};

const NO_SUCH: Readonly<Record<string, string>> = {
  "self-update": "every answer turns the ratchet: there is no such operation",
  join: "members are added by those who are in the group",
  rejoin: "a device that lost its state establishes its sessions anew, each at its next message",
};

/** Why operations have no row; `rows` are those that there are. */
function leftOut(rows: readonly MembershipRow[]): Record<string, string> {
  const found: Record<string, string> = {};
  for (const protocol of protocols) {
    for (const operation of membershipOperations) {
      if (rows.some((row) => row.protocol === protocol && row.operation === operation)) continue;
      const known = NO_SUCH_MLS[`${operation} ${protocol}`];
      if (known !== undefined) {
        found[`${operation} ${protocol}`] = known;
        continue;
      }
      const isMls = protocol.startsWith("mls");
      found[`${operation} ${protocol}`] =
        operation === "migrate"
          ? isMls
            ? "not measured in this run"
            : "the row stands under MLS, which the group moves to"
          : isMls || protocol === "sender-key-sealed"
            ? "not measured in this run"
            : (NO_SUCH[operation] ?? "not measured in this run");
    }
  }
  return found;
}

export class MembershipBenchmark {
  private readonly processes: FanoutProcesses;
  private readonly sizes: readonly number[];
  private readonly quick: boolean;
  private readonly show: (what: string) => void;
  private readonly rows: MembershipRow[] = [];

  constructor(
    processes: FanoutProcesses,
    sizes: readonly number[],
    quick: boolean,
    show: (what: string) => void,
  ) {
    this.processes = processes;
    this.sizes = sizes.filter((members) => members >= LEAST_MEMBERS);
    this.quick = quick;
    this.show = show;
  }

  async run(step: () => void = () => {}): Promise<void> {
    for (const members of this.sizes) {
      const runs = runsOf(members, this.quick);
      const pairwiseRuns = members <= MOST_CREATED ? runs : 1;
      this.show(`${members} members, pairwise: membership`);
      const every = members <= MOST_CREATED;
      this.rows.push(...(await pairwiseMembership(this.processes, members, pairwiseRuns, every)));
      this.show(`${members} members, sender keys: membership`);
      this.rows.push(...(await senderKeyMembership(this.processes, members, pairwiseRuns)));
      for (const protocol of ["mls-warm", "mls-cold"] as const) {
        this.rows.push(...(await new MlsMembership(this.processes, protocol, members).run(runs, this.show)));
      }
      if (members <= MOST_CREATED) await this.moveToMls(members, runs);
      step();
    }
  }

  private async moveToMls(members: number, runs: number): Promise<void> {
    const made = await new MlsMembership(this.processes, "mls-cold", members).create(runs, this.show);
    this.rows.push(made);
    const switched = this.rows.find(
      (row) => row.members === members && row.protocol === "mls-cold" && row.operation === "self-update",
    )!;
    this.show(`${members} members: moving to MLS`);
    this.rows.push(await migrationRow(this.processes, members, runs, made, switched));
  }

  section(): MembershipSection {
    return { rows: this.rows, leftOut: leftOut(this.rows), definitions: membershipDefinitions };
  }
}
