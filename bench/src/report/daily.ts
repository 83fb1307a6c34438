/** Totals of a day for three kinds of group, out of measured rows of exactly their size and payload. */
import { alignTable } from "../mls/table.ts";
import {
  type DailyRow,
  type DailySection,
  type FanoutSection,
  type MembershipOperation,
  type MembershipRow,
  type MembershipSection,
  type Profile,
  type Protocol,
  protocols,
} from "./schema.ts";

export const PROFILE_PAYLOAD = 256;

type Given = Omit<Profile, "assumptions" | "devicesPerMember" | "payloadBytes">;

const given: readonly Given[] = [
  { name: "family", members: 8, messagesPerDay: 60, activeSenders: 8, joinsPerDay: 0.01, leavesPerDay: 0.01 },
  { name: "club", members: 200, messagesPerDay: 300, activeSenders: 40, joinsPerDay: 0.5, leavesPerDay: 0.5 },
  {
    name: "community",
    members: 5_000,
    messagesPerDay: 2_000,
    activeSenders: 250,
    joinsPerDay: 25,
    leavesPerDay: 25,
  },
];

/** The three profiles, with other rates where they are given. */
export function profilesOf(messagesPerDay: number | null, churnPerDay: number | null): Profile[] {
  return given.map((profile) => {
    const messages = messagesPerDay ?? profile.messagesPerDay;
    const joins = churnPerDay ?? profile.joinsPerDay;
    const leaves = churnPerDay ?? profile.leavesPerDay;
    return {
      ...profile,
      messagesPerDay: messages,
      joinsPerDay: joins,
      leavesPerDay: leaves,
      devicesPerMember: 1,
      payloadBytes: PROFILE_PAYLOAD,
      assumptions: [
        `${profile.members.toLocaleString("en")} members with one device each, all of them online.`,
        `${messages.toLocaleString("en")} messages of ${PROFILE_PAYLOAD} bytes a day from all members together, spread evenly over ${profile.activeSenders} who write; figures of one member are the mean of all.`,
        `${joins} members a day are added and ${leaves} are removed, each by one operation of its own (add-1 and remove-1 of the membership table).`,
        `With sender keys, each of the ${profile.activeSenders} gives its key to every newcomer and a new one to everybody after each removal, beside what the group does pairwise.`,
        "Nothing else is counted: no receipts, typing notices, attachments, first sessions, prekeys, KeyPackages, acknowledgements, reconnects or idle keys that are turned by time. What newcomers receive is in the service's part only.",
      ],
    };
  });
}

/** What one event of a kind costs: one message, one join, one leave. */
interface Cost {
  readonly up: number;
  readonly down: number;
  readonly stored: number;
  readonly egress: number;
  readonly senderCpuUs: number;
  readonly dsCpuUs: number;
  readonly receiverBytes: number;
  readonly receiverCpuUs: number;
}

function messageCost(fanout: FanoutSection, protocol: Protocol, profile: Profile): Cost | undefined {
  const at = fanout.rows.findIndex(
    (row) =>
      row.protocol === protocol &&
      row.members === profile.members &&
      row.payloadBytes === profile.payloadBytes,
  );
  const row = fanout.rows[at];
  if (row === undefined) return undefined;
  return costOf({ ...row, senderUploadBytes: fanout.spreads[at]!.senderUploadBytes });
}

function changeCost(
  membership: MembershipSection,
  protocol: Protocol,
  operation: MembershipOperation,
  members: number,
): Cost | undefined {
  const row = membership.rows.find(
    (each) => each.protocol === protocol && each.operation === operation && each.members === members,
  );
  return row && costOf(row);
}

type Costly = Pick<
  MembershipRow,
  | "senderBytes"
  | "senderUploadBytes"
  | "storedBytes"
  | "egressBytes"
  | "receiverBytes"
  | "senderCpuUs"
  | "dsCpuUs"
  | "receiverCpuUs"
>;

function costOf(row: Costly): Cost {
  const down = row.senderBytes - row.senderUploadBytes;
  return {
    up: row.senderUploadBytes,
    down,
    stored: row.storedBytes,
    egress: row.egressBytes + down,
    senderCpuUs: row.senderCpuUs,
    dsCpuUs: row.dsCpuUs,
    receiverBytes: row.receiverBytes,
    receiverCpuUs: row.receiverCpuUs,
  };
}

/** Every event of a day with how often it happens; a string says what is missing. */
function eventsOf(
  profile: Profile,
  protocol: Protocol,
  fanout: FanoutSection,
  membership: MembershipSection,
): readonly { readonly cost: Cost; readonly times: number; readonly churn: boolean }[] | string {
  const { activeSenders, joinsPerDay, leavesPerDay, members, messagesPerDay } = profile;
  const change = (from: Protocol, operation: "add-1" | "remove-1", times: number) => ({
    cost: changeCost(membership, from, operation, members),
    times,
    churn: true,
    what: `${operation} of ${from} at ${members} members`,
  });
  const base = protocol === "sender-key-sealed" ? "pairwise-sealed" : protocol;
  const events = [
    {
      cost: messageCost(fanout, protocol, profile),
      times: messagesPerDay,
      churn: false,
      what: `the fan-out at ${members} members and ${profile.payloadBytes} bytes`,
    },
    change(base, "add-1", joinsPerDay),
    change(base, "remove-1", leavesPerDay),
    ...(protocol === "sender-key-sealed"
      ? [
          change(protocol, "add-1", joinsPerDay * activeSenders),
          change(protocol, "remove-1", leavesPerDay * activeSenders),
        ]
      : []),
  ];
  const missing = events.find(({ cost }) => cost === undefined);
  if (missing !== undefined) return `${missing.what} was not measured in this run`;
  return events.map(({ churn, cost, times }) => ({ churn, cost: cost!, times }));
}

/** Daily totals, for each protocol whose rows are all there. */
export function dailySection(
  profiles: readonly Profile[],
  fanout: FanoutSection,
  membership: MembershipSection,
): DailySection {
  const rows: DailyRow[] = [];
  const leftOut: Record<string, string> = {};
  for (const profile of profiles) {
    for (const protocol of protocols) {
      const events = eventsOf(profile, protocol, fanout, membership);
      if (typeof events === "string") {
        leftOut[`${profile.name} ${protocol}`] = events;
        continue;
      }
      const { members } = profile;
      const sum = (of: (cost: Cost) => number, churnOnly = false): number =>
        Math.round(
          events.reduce(
            (total, { churn, cost, times }) => (churnOnly && !churn ? total : total + times * of(cost)),
            0,
          ),
        );
      const perMember = (of: (cost: Cost) => number, churnOnly = false): number =>
        Math.round(sum(of, churnOnly) / members);
      const memberCpu = ({ receiverCpuUs, senderCpuUs }: Cost) => senderCpuUs + (members - 1) * receiverCpuUs;
      rows.push({
        profile: profile.name,
        protocol,
        memberUploadBytes: perMember(({ up }) => up),
        memberDownloadBytes: perMember(({ down, receiverBytes }) => down + (members - 1) * receiverBytes),
        memberCpuUs: perMember(memberCpu),
        dsIngressBytes: sum(({ up }) => up),
        dsStoredBytes: sum(({ stored }) => stored),
        dsEgressBytes: sum(({ egress }) => egress),
        dsCpuUs: sum(({ dsCpuUs }) => dsCpuUs),
        churnEgressBytes: sum(({ egress }) => egress, true),
        churnMemberCpuUs: perMember(memberCpu, true),
      });
    }
  }
  return { profiles, rows, leftOut };
}

const count = (value: number): string => value.toLocaleString("en");

/** The daily totals as text, each profile's assumptions above its rows. */
export function printDaily({ profiles, rows }: DailySection): void {
  for (const profile of profiles) {
    const own = rows.filter((row) => row.profile === profile.name);
    if (own.length === 0) continue;
    console.log(`\n${profile.name}, one day:\n  ${profile.assumptions.join("\n  ")}`);
    const heads = ["protocol", "member up B", "member down B", "member CPU us", "DS in B", "DS stored B"];
    const lines = own.map((row) => [
      row.protocol,
      ...[
        row.memberUploadBytes,
        row.memberDownloadBytes,
        row.memberCpuUs,
        row.dsIngressBytes,
        row.dsStoredBytes,
        row.dsEgressBytes,
        row.dsCpuUs,
        row.churnEgressBytes,
      ].map(count),
    ]);
    console.log(alignTable([...heads, "DS egress B", "DS CPU us", "of it churn B"], lines).join("\n"));
  }
}
