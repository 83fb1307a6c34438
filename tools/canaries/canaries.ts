/**
 * Small wrong versions of the product, each with a story that has to notice it. A story that does not would pass whatever
 * the product did: `npm run canaries` shows for each of these that its story fails.
 */

/** One place in a source: `find` occurs there exactly once. */
export interface Edit {
  readonly file: string;
  readonly find: string;
  readonly replace: string;
}

export interface Canary {
  /** What the wrong version does. */
  readonly name: string;
  readonly edits: readonly Edit[];
  /** The file with the story, and how its title begins. */
  readonly story: { readonly file: string; readonly title: string };
}

const SERVICE = "packages/delivery-service/src/";
const CLIENT = "packages/client-core/src/";
const MLS = "packages/mls-groups/src/";
const story = (file: string, title: string): Canary["story"] => ({
  file: `packages/simulation/test/scenario/${file}.test.ts`,
  title,
});
const ofService = (file: string, title: string): Canary["story"] => ({
  file: `packages/delivery-service/test/scenario/${file}.test.ts`,
  title,
});
const ofUnit = (file: string, title: string): Canary["story"] => ({
  file: `packages/client-core/test/unit/${file}.test.ts`,
  title,
});
const ofStore = (title: string): Canary["story"] => ({
  file: "packages/delivery-service/test/contract/mls-group-store.test.ts",
  title,
});
const canary = (name: string, at: Canary["story"], ...edits: readonly Edit[]): Canary => ({
  name,
  story: at,
  edits,
});
const edit = (file: string, find: string, replace: string): Edit => ({ file, find, replace });
/** A rule of the community that nobody follows, neither members nor the service. */
const withoutRule = (rule: string): Edit =>
  edit(`${MLS}community/community-policy.ts`, `check("${rule}",`, `void (`);

export const canaries: readonly Canary[] = [
  // What others fell into (the delivery service).
  canary(
    "a commit of an epoch that is over takes place",
    ofStore("wins its epoch alone"),
    edit(
      `${SERVICE}adapters/sqlite-mls-appends.ts`,
      "const isOther = append.fromEpoch !== head.epoch || fromCommitSequence !== head.commitSequence;",
      "const isOther = append.fromEpoch > head.epoch;",
    ),
  ),
  canary(
    "a commit whose answer was lost is refused as one that lost a race",
    ofService("a-commit-counts-once-whatever-happens", "whose answer was lost, it is answered again"),
    edit(
      `${SERVICE}service/group-commits.ts`,
      "if (known === undefined || !equalBytes(known.message, commit)) return undefined;",
      "return undefined;",
    ),
  ),
  canary(
    "a message whose answer was lost is stored once more",
    ofStore("sent again is answered with where it is"),
    edit(
      `${SERVICE}adapters/sqlite-mls-appends.ts`,
      'if (known !== undefined) return { kind: "repeated", sequence: known.sequence };',
      "",
    ),
  ),
  canary(
    "a turn to commit never ends while its holder does nothing",
    story("a-member-does-not-use-its-turn-to-commit", ""),
    edit(
      `${SERVICE}core/turn-line.ts`,
      "const expired = line.current !== undefined && now >= line.current.expiresAtMs;",
      "const expired = false;",
    ),
    edit(
      `${SERVICE}core/turn-line.ts`,
      "return current !== undefined && current.holder !== who && now < current.expiresAtMs;",
      "return current !== undefined && current.holder !== who;",
    ),
  ),
  canary(
    "a reader is led over what has expired",
    story("a-member-of-a-community-is-away-for-very-long", "a member that was away until the log expired"),
    edit(
      `${SERVICE}core/group-decisions.ts`,
      "if (afterSequence !== undefined && afterSequence < firstSequence - 1)",
      "if (false)",
    ),
  ),
  canary(
    "a KeyPackage is handed out and kept",
    ofService("key-packages-are-claimed-once-and-nobody-is-left-out", "are handed out to one of two"),
    edit(
      `${SERVICE}adapters/sqlite-key-packages.ts`,
      "`DELETE FROM key_packages WHERE rowid =\n",
      "`SELECT message FROM key_packages WHERE rowid =\n",
    ),
    edit(`${SERVICE}adapters/sqlite-key-packages.ts`, "LIMIT 1)\n       RETURNING message`", "LIMIT 1)`"),
  ),
  canary(
    "whoever has no KeyPackage is left out without a word",
    story("key-packages-exhausted-by-an-attacker", "whoever has no KeyPackage at all"),
    edit(
      `${CLIENT}shell/communities/member-jobs.ts`,
      "return { rows, failure: rows.length > 0 ? undefined : failure };",
      "return { rows, failure: undefined };",
    ),
  ),
  canary(
    "a ban cuts nobody off before the removal",
    story("who-is-banned-stays-out", "a ban cuts a member off at once"),
    edit(`${SERVICE}service/live-group.ts`, "if (this.isBanned(signatureKey)) return undefined;", ""),
    edit(
      `${SERVICE}service/group-access.ts`,
      'if (live.isBanned(leaf.signatureKey)) throw new RejectionError("group/not-a-member");',
      "",
    ),
  ),
  canary(
    "a slow reader is cut off without a word",
    ofService("a-slow-reader-is-told-to-come-back", ""),
    edit(
      `${SERVICE}service/client-connection.ts`,
      'this.connection.send(encodeServiceFrame({ requestId: 0, body: { kind: "resumeHint", retryAfterMs } }));',
      "",
    ),
  ),
  canary(
    "a commit stands in the log before the proposals that it takes",
    ofService("a-commit-counts-once-whatever-happens", "is kept behind the proposals that it takes"),
    edit(
      `${SERVICE}adapters/sqlite-mls-appends.ts`,
      'append.proposals.map((message) => ({ kind: "proposal", acceptedAtMs, message }) as const),\n    {',
      "[],\n    {",
    ),
    edit(
      `${SERVICE}adapters/sqlite-mls-appends.ts`,
      "parted: append.partedSequence,\n    },\n  ]);",
      `parted: append.partedSequence,
    },
    ...append.proposals.map((message) => ({ kind: "proposal", acceptedAtMs, message }) as const),
  ]);`,
    ),
  ),
  canary(
    "what could not be read for a reader is forgotten",
    ofService("the-log-reaches-every-reader-without-a-gap", "what cannot be read while the database is away"),
    edit(
      `${SERVICE}service/group-delivery.ts`,
      "else this.context.clock.after(OVERLOADED_RETRY_MS, () => this.lookAgain());",
      "",
    ),
  ),
  canary(
    "an envelope goes before its time is over",
    ofService("nothing-is-kept-longer-than-the-schedule-says", "a retention run removes what is overdue"),
    edit(
      `${SERVICE}core/retention.ts`,
      '{ name: "envelopes", beforeMs: now - retention.envelopesMs }',
      '{ name: "envelopes", beforeMs: now }',
    ),
  ),
  canary(
    "a message is read and encoded once more for each member that is here",
    ofService("the-log-reaches-every-reader-without-a-gap", "a message to 300 members that are here"),
    edit(
      `${SERVICE}service/group-pages.ts`,
      "if (request.through < request.lastSequence) return this.read(request);",
      "if (request.through > 0) return this.read(request);",
    ),
  ),
  canary(
    "all who lost the service come back in the same moment",
    {
      file: "packages/client-core/test/unit/decisions.test.ts",
      title: "a pause grows with the attempts",
    },
    edit(`${CLIENT}core/backoff.ts`, "return Math.ceil(ceiling * fraction);", "return ceiling;"),
  ),
  canary(
    "who came last commits first, and others never",
    ofService("turns-go-round", "a turn that is given back passes"),
    edit(
      `${SERVICE}core/turn-line.ts`,
      "return known ? waiting : [...waiting, event.who];",
      "return known ? waiting : [event.who, ...waiting];",
    ),
  ),
  canary(
    "the GroupInfo of a commit that lost takes the place of a newer one",
    ofStore("wins its epoch alone"),
    edit(
      `${SERVICE}adapters/sqlite-mls-appends.ts`,
      "if (known !== undefined || isOther) return",
      `if (known !== undefined || isOther)
    statements
      .prepare("UPDATE mls_epochs SET group_info = ? WHERE mls_group = ? AND epoch = ?")
      .run(append.groupInfo ?? null, head.key, head.epoch);
  if (known !== undefined || isOther) return`,
    ),
  ),
  canary(
    "a Welcome goes out although its commit lost",
    ofStore("wins its epoch alone"),
    edit(
      `${SERVICE}adapters/sqlite-mls-appends.ts`,
      "if (known !== undefined || isOther) return",
      `if (isOther) queueWelcomes(statements, head.key, head.lastSequence, append);
  if (known !== undefined || isOther) return`,
    ),
  ),
  canary(
    "a commit has to take every proposal that waits",
    ofService("a-commit-counts-once-whatever-happens", "need not take what waits"),
    edit(
      `${SERVICE}service/group-commits.ts`,
      "checkParties(group, validated, suspended, frame);",
      `if (validated.referenced.length < proposals.length) throw new RejectionError("group/commit-invalid");
    checkParties(group, validated, suspended, frame);`,
    ),
  ),
  // What a service can do, and what members notice.
  canary(
    "pages behind a gap are taken",
    story("a-service-that-tampers-with-the-log", "pages that are withheld"),
    edit(`${CLIENT}shell/communities/log-reader.ts`, "if (entry.sequence !== cursor + 1) {", "if (false) {"),
  ),
  canary(
    "members let in whom the service lets in",
    story("a-service-that-admits-a-stranger", "members refuse whom the service lets in"),
    withoutRule("community/ticket"),
  ),
  canary(
    "a refused commit is told to nobody",
    story("a-commit-that-members-cannot-follow", "path secrets that nobody can open"),
    edit(
      `${CLIENT}shell/communities/log-reader.ts`,
      'this.names.tell({ kind: "groupRefuse", ...signed, groupId: id, signature });',
      "",
    ),
  ),
  canary(
    "a restored device goes on with the prekeys that it had",
    story("restored-from-an-old-copy", ""),
    edit(`${CLIENT}shell/recovery.ts`, "await this.directory.renew();", ""),
  ),
  canary(
    "nobody is told that a service shows an older record of a group",
    story("a-service-that-lies-about-a-migration", "a service that shows one member the record of yesterday"),
    edit(
      `${CLIENT}shell/groups.ts`,
      'if (revision < before) this.suspicions.note(group, "group/rolled-back");',
      "",
    ),
  ),
  canary(
    "what a service says of a migration is not compared with the record",
    story("a-service-that-lies-about-a-migration", "a service that names the same state"),
    edit(
      `${CLIENT}shell/groups.ts`,
      "if (state !== theirs || generation !== number) ",
      "if (state !== theirs) ",
    ),
  ),
  // Members, links, bans.
  canary(
    "a pending commit that a crash has left is forgotten",
    story("a-crash-leaves-a-pending-commit-behind", "never submitted"),
    edit(
      `${CLIENT}shell/communities/communities.ts`,
      "if (this.context.mls.pendingCommit(id) !== undefined) await orRefused(() => this.committer.resume(id));",
      "",
    ),
  ),
  canary(
    "what a removed member had in its outbox waits for ever",
    story("members-of-a-community-remove-each-other", "a member is removed with messages in its outbox"),
    edit(`${CLIENT}shell/communities/ledger.ts`, "this.failWaiting(id);", ""),
  ),
  canary(
    "a removal that lost to another stays written down",
    story("members-of-a-community-remove-each-other", "two admins remove each other"),
    edit(`${CLIENT}shell/communities/ledger.ts`, "mls.deleteJobs(id);", ""),
  ),
  canary(
    "a link lets in more than it says",
    story("an-invite-link-is-a-door-for-whoever-holds-it", "a link lets in as many as it says"),
    withoutRule("community/link-uses"),
  ),
  canary(
    "any group may pass itself off as the one that a link leads to",
    story("an-invite-link-is-a-door-for-whoever-holds-it", "a link that was revoked"),
    edit(
      `${CLIENT}shell/communities/joiner.ts`,
      "if (equalBytes(fingerprintOf(accountIdentityKey), fingerprint)) return",
      "if (fingerprintOf(accountIdentityKey).length === fingerprint.length) return",
    ),
  ),
  canary(
    "a link lets in after its time",
    story("a-link-that-has-expired-lets-nobody-in", "a link lets in until it expires"),
    edit(`${SERVICE}core/group-decisions.ts`, "if (linkHasExpired(link, nowMs)) ", "if (false) "),
  ),
  canary(
    "members take whom an expired link has let in",
    story("a-link-that-has-expired-lets-nobody-in", "where the service lets somebody in by an expired link"),
    withoutRule("community/link-expired"),
  ),
  canary(
    "a link that asks for approval lets in without",
    story("a-link-that-asks-for-approval", "the service lets nobody in without an admin's word"),
    withoutRule("community/link-approval"),
  ),
  canary(
    "a service has a device added that its account has removed",
    story("a-second-device-in-communities", "a KeyPackage of a device"),
    edit(
      `${CLIENT}shell/communities/member-jobs.ts`,
      "if (listed === undefined) return true;",
      "if (listed === undefined) return false;",
    ),
  ),
  canary(
    "nobody keeps the picture of a community",
    story("a-community-has-a-picture", "a picture stays at the service"),
    edit(
      `${CLIENT}shell/communities/pictures.ts`,
      "if (equalBytes(digestOf(blob), digest)) await",
      "if (blob.length === 0) await",
    ),
  ),
  canary(
    "a banned account comes back by a link",
    story("who-is-banned-stays-out", "a banned account is refused by link"),
    withoutRule("community/join-banned"),
    edit(
      `${SERVICE}service/group-commits.ts`,
      "if (validated.bringsBanned || live.isBanned(validated.senderKey))",
      "if (false)",
    ),
  ),
  // The move to MLS with real clients; the planted faults of its model are beside the model.
  canary(
    "what waits at the switch is not said again",
    story("what-is-under-way-when-a-group-moves-to-mls", ""),
    edit(
      `${CLIENT}core/migration/said-anew.ts`,
      "sayAnew: rows.filter(({ isPairwiseOnly }) => !isPairwiseOnly),",
      "sayAnew: [],",
    ),
  ),
  canary(
    "a creator may bring whom it likes",
    story("a-creator-that-brings-a-ghost", "a creator that brings a ghost along"),
    edit(
      `${CLIENT}shell/migration/switcher.ts`,
      "hasStrangers: strangers.length > 0 || (reached !== undefined && !this.isContextOfRecord(id, reached)),",
      "hasStrangers: false,",
    ),
  ),
  canary(
    "nobody takes over from a creator that has vanished",
    story("the-creator-of-a-move-to-mls-vanishes", "a creator that vanishes while it prepares"),
    edit(
      `${CLIENT}core/migration/decisions.ts`,
      "return isUnderWay && !isCreator && isRoleHolder && leaseLeftMs === 0;",
      "return false;",
    ),
  ),
  canary(
    "only the creator says that a move is done",
    story("the-creator-of-a-move-to-mls-vanishes", "a creator that is removed when its group has switched"),
    edit(`${CLIENT}core/migration/decisions.ts`, "return !isCreatorIn || isLate;", "return false;"),
  ),
  canary(
    "a device that was silent for long is waited for",
    story("a-device-is-away-while-its-group-moves-to-mls", "a device that was not heard for thirty days"),
    edit(`${CLIENT}store/heard.ts`, "const QUIET_DAYS = 30;", "const QUIET_DAYS = 3_000;"),
  ),
  canary(
    "days on which a device was away itself are the silence of others",
    story("a-device-is-away-while-its-group-moves-to-mls", "a device that was away for forty days"),
    edit(`${CLIENT}store/heard.ts`, "if (before > 0 && day > before + 1)", "if (false)"),
  ),
  canary(
    "an envelope that comes twice is a fault of the storage",
    story("mail-comes-out-of-order-while-a-group-moves-to-mls", "mail that comes twice"),
    edit(
      `${CLIENT}shell/inbox.ts`,
      'case "duplicate":',
      'case "duplicate":\n        throw new Error("an envelope came twice");',
    ),
  ),
  canary(
    "no transaction waits for the disk",
    story(
      "client-killed-between-each-pair-of-steps",
      "a recipient loses power around any effect of receiving",
    ),
    edit(
      `${CLIENT}shell/context.ts`,
      "this.storage.transaction(whole, durability)",
      'this.storage.transaction(whole, "with-the-next")',
    ),
  ),
  canary(
    "an edit outlives its message in the outbox",
    story("disappearing-messages", "a disappearing message goes from both databases"),
    edit(
      `${CLIENT}shell/forget-told.ts`,
      "if (expireAfterSeconds > 0 && !(isOwn && edited)) return;",
      "if (expireAfterSeconds > 0) return;",
    ),
  ),
  canary(
    "whoever prepares a move does not wait for those it has put in",
    story("a-group-is-ready-before-it-switches", "members that are not in yet keep the next ones waiting"),
    edit(
      `${CLIENT}shell/migration/preparer.ts`,
      "if (this.isResting(key) || this.areComing(id) || this.lulls.mustWait(id)) return false;",
      "if (this.isResting(key) || this.lulls.mustWait(id)) return false;",
    ),
  ),
  canary(
    "what is acknowledged is never written down",
    ofUnit("acknowledged-events-are-written-with-the-next", "where nothing else is written"),
    edit(`${CLIENT}shell/event-cursor.ts`, "this.context.transaction(() => {}, ", "void ("),
  ),
  canary(
    "each entry is taken by itself",
    ofUnit("entries-together", "frames of a group that come in one piece"),
    edit(
      `${CLIENT}shell/communities/entries-together.ts`,
      "for (const entry of frame.entries) this.entries.push(entry);",
      "for (const entry of frame.entries) this.entries.push(entry);\n    this.flush();",
    ),
  ),
  canary(
    "whoever makes the group of a move is let into another one of its name",
    story("a-welcome-that-claims-a-migration", "a Welcome into the very group that one makes oneself"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      'return this.isMadeHere(known) ? { conversation: known, place: "over" } : undefined;',
      "return undefined;",
    ),
    edit(
      `${CLIENT}shell/communities/joiner.ts`,
      'return state === "creating" || (state === "active" && cursor < sequence);',
      'return state === "active" && cursor < sequence;',
    ),
    edit(
      `${CLIENT}shell/communities/joiner.ts`,
      'if (mls.group(id)?.state === "active" || mls.group(id)?.state === "creating") return undefined;',
      'if (mls.group(id)?.state === "active") return undefined;',
    ),
  ),
  canary(
    "a key that nobody can be told of is waited for as long as it takes",
    story("a-group-whose-key-cannot-be-announced", "a new key that the service lets nobody hear of"),
    edit(
      `${CLIENT}shell/groups.ts`,
      "whenSettled(announcement, { timeoutMs, late: NOT_ANNOUNCED })",
      "whenSettled(announcement, { timeoutMs: 100 * timeoutMs, late: NOT_ANNOUNCED })",
    ),
  ),
  canary(
    "what is held for a group is looked at whether there is such a group or not",
    ofUnit("what-is-held-for-no-group-holds-up-none", "what hundreds said in groups that there are not"),
    edit(
      `${CLIENT}shell/follow-up.ts`,
      "if (conversations.group(group) === undefined || this.wasLookedAt(group)) continue;",
      "if (this.wasLookedAt(group)) continue;",
    ),
  ),
  canary(
    "a change of a group's record has its line under the device of its author",
    story("an-admin-that-hides-its-change-of-a-group", "an admin hides the line of its own change"),
    edit(
      `${CLIENT}shell/group-ledger.ts`,
      "authorDevice: NO_DEVICE,",
      "authorDevice: change.author.deviceId,",
    ),
  ),
  canary(
    "whoever joins by a link asks whomever the service shows",
    story("a-service-that-swaps-an-identity", "whoever joins by a link asks nobody but"),
    edit(
      `${CLIENT}shell/communities/approvals.ts`,
      'if (context.identities.compare(account, accountIdentityKey) !== "same")',
      'if (context.identities.compare(account, accountIdentityKey) === "unknown")',
    ),
  ),
  canary(
    "whoever comes to know an account looks nowhere where it stands",
    story("a-service-that-swaps-an-identity", "whoever scans a card later"),
    edit(`${CLIENT}client/contacts.ts`, "        context.identities.learned(account);\n      }", "      }"),
  ),
  canary(
    "an account comes under another key in the commit that removes it",
    {
      file: "packages/mls-groups/test/adversary/community-policy.test.ts",
      title: "an account under another key in the commit that removes",
    },
    edit(
      `${MLS}community/community-policy.ts`,
      "    requireSameKey(credential, leavesBefore(commit, accountId));\n",
      "",
    ),
  ),
  canary(
    "an external commit that came too late is given up for this connection",
    story("a-group-that-is-opened-again-is-heard", "whoever enters anew when the connection breaks"),
    edit(`${CLIENT}shell/communities/joiner.ts`, '      if (error.code === "group/not-open") return;\n', ""),
  ),
  canary(
    "whoever has entered anew takes the log of the leaf before for that of its own",
    story("a-group-that-is-opened-again-is-heard", "whoever enters anew when the service has no time"),
    edit(
      `${CLIENT}shell/communities/communities.ts`,
      "      if (!(await this.joinAnew(id))) return;\n      // What is open may be the log of the leaf before, from where that one was.\n      this.access.forget(id);\n",
      "      if (!(await this.joinAnew(id))) return;\n",
    ),
  ),
  canary(
    "a group that could not be opened at once for a caller stays closed",
    story("a-group-that-is-opened-again-is-heard", "a group that is made when the service has no time"),
    edit(`${CLIENT}shell/communities/communities.ts`, "if (isTemporary(error)) this.openingOf(id);", ""),
  ),
  canary(
    "what is acknowledged before a group is open again counts for the new stream",
    story("a-group-that-is-opened-again-is-heard", "a group that is opened once more while much comes in"),
    edit(
      `${CLIENT}shell/communities/access.ts`,
      "        opening.acknowledged = row.cursor;\n        opening.toAcknowledge = row.cursor;\n",
      "",
    ),
  ),
  canary(
    "a contact card alone says nothing of whom a leaf stands for",
    story("a-service-that-swaps-an-identity", "by a contact card"),
    edit(
      `${CLIENT}shell/known-identities.ts`,
      "if (card === undefined) return",
      "if (card === undefined || card.length > 0) return",
    ),
  ),
  canary(
    "whoever comes into a group under another key than it is known by is told of when it speaks",
    story("a-service-that-swaps-an-identity", "when that one comes into a group"),
    edit(
      `${CLIENT}shell/communities/ledger.ts`,
      "    this.context.identities.tellOfOthers(id, leaves);\n",
      "",
    ),
  ),
  canary(
    "the last entries of a stream that is over are taken together with the first ones of the next",
    ofUnit("entries-together", "the last entries of a stream that is over"),
    edit(
      `${CLIENT}shell/communities/entries-together.ts`,
      "last !== undefined && next === last + 1",
      "last !== undefined && next !== undefined",
    ),
  ),
  canary(
    "every member empties its log when a move begins",
    story("members-are-spared-while-a-group-moves", "no member empties its log"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "if (generation > 1 || mls.group(id) !== undefined) context.eraseWhenQuiet();",
      "context.eraseWhenQuiet();",
    ),
  ),
  canary(
    "a move begins whatever was said just now",
    story("members-are-spared-while-a-group-moves", "a move does not begin in the moment"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "    this.requireRole(id);\n    await this.lulls.come(id);\n",
      "    this.requireRole(id);\n",
    ),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "    await this.lulls.come(id);\n    context.transaction",
      "    context.transaction",
    ),
  ),
  canary(
    "a word of a move leaves whatever its time is",
    story("members-are-spared-while-a-group-moves", "a word of a move does not leave before its time"),
    edit(
      `${CLIENT}shell/outbox-worker.ts`,
      "const untilDueMs = earlyMs > LONGEST_REST_MS ? 0 : earlyMs;",
      "const untilDueMs = Math.min(0, earlyMs);",
    ),
  ),
  canary(
    "whoever is removed is not told of the step of a move that it has not heard of",
    story("somebody-is-removed-while-a-group-moves-to-mls", "who is removed before it has heard of a step"),
    edit(`${CLIENT}shell/group-messages.ts`, "at = Math.max(1, revision - UNHEARD_CHANGES)", "at = revision"),
  ),
  canary(
    "those who waited for a move come all at once",
    story("members-are-spared-while-a-group-moves", "those who waited for a move"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "this.lookAtMs.set(key, this.context.now() + newcomerPauseMs(members));",
      "",
    ),
    edit(`${CLIENT}shell/migration/migrations.ts`, "    if (this.lulls.mustWait(id)) return;\n", ""),
  ),
  canary(
    "a Welcome says nothing of the group's profile",
    story("whoever-is-added-is-told-the-group-profile-in-its-welcome", "whoever is added has title"),
    edit(
      `${CLIENT}shell/communities/committer.ts`,
      "        welcomeExtensions: welcomeExtensions(profile),\n",
      "",
    ),
  ),
  canary(
    "whoever was added under an old title keeps it when the group has moved",
    story("what-is-under-way-when-a-group-moves-to-mls", "attachments, the title and the timer"),
    edit(
      `${CLIENT}shell/migration/switcher.ts`,
      "if (equalBytes(hashOfProfile(profile), profileHash)) {",
      "if (mls.group(id)?.profile === undefined && equalBytes(hashOfProfile(profile), profileHash)) {",
    ),
  ),
  canary(
    "a device that comes behind the switch shows the title that the record has kept",
    story("second-devices-when-a-group-moves-to-mls", "a device that is linked after the move"),
    edit(
      `${CLIENT}shell/migration/switcher.ts`,
      "    conversations.setTitle(id, groupProfile.decode(known).title);\n",
      "",
    ),
  ),
  canary(
    "members who wait for a move that was never begun wait for a person",
    story("members-wait-for-a-group-to-move-to-mls", "who asked for more members is killed when they are"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "const isWaitedFor = generation === 0 && migration.waiting(id).length > 0;",
      "const isWaitedFor = false;",
    ),
  ),
  canary(
    "whoever waits for the secret of a switch asks the service for it whenever it has asked",
    story("a-creator-that-keeps-the-secret", "whoever is not told the secret"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "    if (this.context.migration.countSecrets(id) <= before) return;\n",
      "",
    ),
  ),
  canary(
    "a Welcome that waits for a log which stands still is waited for without end",
    story("a-creator-that-keeps-the-secret", "who is removed and added anew"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "if (joiner.dueWelcomes().some",
      "if (mls.welcomes().some",
    ),
  ),
  canary(
    "a secret of the switch that comes late is not looked at",
    story("a-creator-that-keeps-the-secret", "a secret that comes when the switch"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "    if (this.context.migration.countSecrets(id) <= before) return;\n",
      "    if (before >= 0) return;\n",
    ),
  ),
  canary(
    "a Welcome for which a record was read is thrown away although the record names its group",
    story("a-welcome-that-claims-a-migration", "comes before any word of the move"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "    if (mls.group(known) !== undefined)\n",
      '    if (mls.group(known)?.state === "active")\n',
    ),
  ),
  canary(
    "the record of a group that was left is read with whatever comes, for a Welcome that it may explain",
    story("a-welcome-that-claims-a-migration", "ever less often"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "        if (!isRead) this.readAgain.lengthen(key);\n",
      "",
    ),
  ),
  canary(
    "one move that is kept waiting holds up all others of its device",
    story("one-move-that-is-kept-waiting-holds-up-no-other", ""),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "await Promise.race([attempt, late])",
      "await Promise.race([attempt])",
    ),
  ),
  canary(
    "whoever lacks a key that an admin has made up enters the community anew",
    story("members-who-abuse-a-migration", "in a group that has moved, drives nobody out"),
    edit(
      `${CLIENT}shell/communities/log-reader.ts`,
      "preparing ? this.giveUp(id) :",
      "preparing || !preparing ? this.giveUp(id) :",
    ),
  ),
  canary(
    "a log that stood still before the switch is not read on behind it",
    story("members-who-abuse-a-migration", "leaves nobody deaf"),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "      this.afterwards(() => this.readOnBehindSwitch(id));\n",
      "",
    ),
  ),
  canary(
    "a service that wants the same bytes again gets them without a pause",
    story("a-service-that-lies-about-a-migration", "wants the same bytes again"),
    edit(
      `${CLIENT}shell/outbox-worker.ts`,
      "ms: Math.max(decision.afterMs, Math.min(againMs(refused), ASKED_AGAIN_MOST_MS)),",
      "ms: decision.afterMs,",
    ),
  ),
  canary(
    "what is deleted before it has left leaves a number for which others wait",
    story("what-is-under-way-when-a-group-moves-to-mls", "what somebody deletes before it has left"),
    edit(`${CLIENT}core/migration/said-anew.ts`, "while (unsaid.has(from - 1)) from--;", ""),
  ),
  canary(
    "whoever has gone over keeps the roles of an MLS group that is given up",
    story("a-creator-that-brings-a-ghost", "whoever came in from outside behind a creator"),
    edit(
      `${CLIENT}shell/group-ledger.ts`,
      'if (goesByMls && change.action.kind === "migrate-recover") {',
      'if (goesByMls && change.action.kind === "migrate-recover" && change.revision < 0) {',
    ),
  ),
  canary(
    "what is refused for no reason is asked again without end at the same pace",
    story("a-service-that-lies-about-a-migration", "a service that refuses what is sent, for no reason"),
    edit(`${CLIENT}shell/outbox-worker.ts`, "if (wasSubmitted) refused = 0;", "refused = 0;"),
  ),
  canary(
    "whoever gave a contact card is verified, whatever its key is now",
    story("a-service-that-swaps-an-identity", "a service that shows another identity gets nothing sent"),
    edit(
      `${CLIENT}client/contacts.ts`,
      "isKeyOf(row.fingerprint, identity)),",
      "row.fingerprint !== undefined),",
    ),
    edit(`${CLIENT}client/contacts.ts`, "context.contacts.setFingerprint(account, undefined);", ""),
  ),
  canary(
    "a contact card is taken beside another key that the service had shown",
    story("a-service-that-swaps-an-identity", "a contact card that comes later"),
    edit(
      `${CLIENT}client/contacts.ts`,
      "!isKeyOf(card.fingerprint, identity))",
      "!isKeyOf(card.fingerprint, identity) && false)",
    ),
  ),
  canary(
    "a new identity key is accepted by whoever has compared the number of another one",
    story("a-service-that-swaps-an-identity", "a service that shows another identity gets nothing sent"),
    edit(`${CLIENT}client/contacts.ts`, "if (accept && choice.safetyNumber", "if (!accept && accept"),
  ),
  canary(
    "a record in which nothing is new ends the pauses of all",
    story("a-service-that-lies-about-a-migration", "two groups that are refused for no reason"),
    edit(
      `${CLIENT}shell/groups.ts`,
      "if (before === undefined || after === undefined || !equalBytes(before, after)) this.tellAndWake();",
      "if (after !== before || after !== undefined) this.tellAndWake();",
    ),
  ),
  canary(
    "a group is taken up under the id of a contact",
    story("ids-that-belong-to-somebody-else", "gets into no conversation with a contact"),
    edit(
      `${CLIENT}shell/founded-ids.ts`,
      "refuseUnless(!isAccount && kind === undefined, TAKEN);",
      "refuseUnless(!isAccount || kind !== null, TAKEN);",
    ),
  ),
  canary(
    "a pairwise group is taken up under the id of a community",
    story("ids-that-belong-to-somebody-else", "takes nobody's community away"),
    edit(
      `${CLIENT}shell/founded-ids.ts`,
      "if (!isPairwise && isCommunity)",
      "if (!isPairwise && isCommunity && group.length === 0)",
    ),
  ),
  canary(
    "an account is heard under the id of a group",
    story("ids-that-belong-to-somebody-else", "says nothing in a group"),
    edit(
      `${CLIENT}shell/founded-ids.ts`,
      'refuseUnless(conversations.get(account)?.kind !== "group", TAKEN);',
      "refuseUnless(conversations.get(account) !== null, TAKEN);",
    ),
  ),
  canary(
    "a request to send again stays sealed where nothing sealed is taken",
    story("what-cannot-be-decrypted-is-asked-for-again", "whoever can send the sender nothing sealed"),
    edit(
      `${CLIENT}shell/encryptor.ts`,
      "if (raw && (this.isSealOver(part) || this.withoutAccess(part).length > 0)) {",
      "if (raw && this.isSealOver(part)) {",
    ),
  ),
  canary(
    "one member without an access key costs all others theirs",
    story("a-member-that-can-be-sent-nothing-sealed", "costs the others no seal"),
    edit(
      `${CLIENT}shell/encryptor.ts`,
      "return accounts.filter((_, i) => accessKeys[i] === undefined);",
      "return accounts.filter((_, i) => accessKeys[i] !== null);",
    ),
  ),
  canary(
    "a device that was removed while the service was away stays there",
    story("a-second-device-is-linked-and-removed", "removed while the service is away"),
    edit(
      `${CLIENT}client/client.ts`,
      "this.behind(async () => void (await this.linking.publish()));",
      "void this.linking;",
    ),
  ),
  canary(
    "whoever links a device again was not told that it had worked",
    story("a-second-device-is-linked-and-removed", "does it by asking again"),
    edit(
      `${CLIENT}client/linking.ts`,
      "if (!this.isListed(request.identityKey)) {",
      "if (!this.isListed(request.identityKey) || registrationId >= 0) {",
    ),
  ),
  canary(
    "a service that was set back keeps a device that is gone",
    story("a-second-device-is-linked-and-removed", "a service brought back"),
    edit(
      `${CLIENT}shell/directory.ts`,
      "if (context.isOwn(account)) context.transaction",
      "if (context.isOwn(account) && deviceList.length === 0) context.transaction",
    ),
  ),
  canary(
    "what a member has said to an admin alone hides what it says to all under that id",
    story("moderators-pin-and-delete-in-a-community", "hides nothing from an admin"),
    edit(
      `${CLIENT}shell/receiver.ts`,
      "return { conversation: group?.groupId ?? author, author, device, message };",
      "return { conversation: new Uint8Array(0), author: group === undefined ? author : author, device, message };",
    ),
  ),
  canary(
    "what an own device said in a group that is not known yet is lost here",
    story("a-second-device-is-linked-and-removed", "what one device says in a new group"),
    edit(
      `${CLIENT}shell/receiver.ts`,
      'this.hold("group", message, conversation);\n      return;\n    }\n    const { accountId: author',
      "return;\n    }\n    const { accountId: author",
    ),
  ),
  canary(
    "what another own device has read before it came here stays unread",
    story("a-second-device-in-communities", "whose log comes after its mail"),
    edit(`${CLIENT}shell/lines.ts`, "else history.wasRead(line, read.readAtMs);", "else void read.readAtMs;"),
  ),
  canary(
    "a removed device keeps the keys of pairwise groups",
    story("a-second-device-is-linked-and-removed", "knows the key of no pairwise group for long"),
    edit(
      `${CLIENT}client/client.ts`,
      "context.conversations.rotateAll(context.own.accountId);",
      "void context.conversations;",
    ),
  ),
  canary(
    "a linked device begins without the timers of conversations",
    story("a-second-device-is-linked-and-removed", "keeps the timer of a conversation"),
    edit(
      `${CLIENT}client/linking.ts`,
      'if (kind === "direct" && state === "active" && expireAfterSeconds > 0)',
      'if (kind === "direct" && state === "active" && expireAfterSeconds < 0)',
    ),
  ),
  canary(
    "a group that could not be told of a new profile key is never told",
    story("block-list-and-message-requests", "is told with the next connection"),
    edit(`${CLIENT}client/contacts.ts`, "if (isTemporary(error)) continue;", "void isTemporary;"),
  ),
  canary(
    "a contact card counts on the device that scanned it alone",
    story("a-service-that-swaps-an-identity", "has the other one take no other key"),
    edit(
      `${CLIENT}shell/sync-receiver.ts`,
      "    contacts.setFingerprint(account, fingerprint);\n",
      "    void contacts;\n",
    ),
  ),
  canary(
    "an own device is not told that the service has shown it another key than a card says",
    story("a-service-that-swaps-an-identity", "says on the other one"),
    edit(
      `${CLIENT}shell/sync-receiver.ts`,
      'events.append({ kind: "decision-needed", account, detail, atMs: this.context.now() });',
      "void [events, detail];",
    ),
  ),
  canary(
    "a proposal that is refused stays in the follower",
    {
      file: "packages/delivery-service/test/contract/commit-validator.test.ts",
      title: "keeps nothing of a proposal that may not wait",
    },
    edit(
      `${SERVICE}adapters/community-follower.ts`,
      "    requireMayWait(request);\n",
      "    void requireMayWait;\n",
    ),
  ),
  canary(
    "an epoch of the same number is taken for the one that was taken back",
    {
      file: "packages/delivery-service/test/contract/commit-validator.test.ts",
      title: "tells an epoch from one of its number",
    },
    edit(
      `${SERVICE}adapters/followers.ts`,
      "held.commitSequence === commitSequence;",
      "commitSequence !== -1;",
    ),
  ),
  canary(
    "a ban list is kept that the context does not name",
    {
      file: "packages/delivery-service/test/contract/commit-validator.test.ts",
      title: "refuses a ban list that the context does not name",
    },
    edit(
      `${SERVICE}adapters/community-follower.ts`,
      "if (banListChanged && !equalBytes(banList.hash(), after.banListHash))",
      "if (banListChanged && after.banListHash.length > 0 && !equalBytes(banList.hash(), after.banListHash))",
    ),
  ),
  canary(
    "re-feedings of any number of groups go on at a time",
    {
      file: "packages/delivery-service/test/contract/commit-validator.test.ts",
      title: "follows re-feedings of some groups",
    },
    edit(
      `${SERVICE}adapters/followers.ts`,
      "this.refeedings.size >= MAX_REFEEDINGS;",
      "this.refeedings.size >= 1_000 * MAX_REFEEDINGS;",
    ),
  ),
  canary(
    "what is fed again costs nothing",
    {
      file: "packages/delivery-service/test/scenario/a-service-that-was-set-back-is-fed-forward.test.ts",
      title: "more bytes than the address may store now",
    },
    edit(
      `${SERVICE}service/group-refeeds.ts`,
      "        chargesFor(context, peer, group, commits, validated, refeed.groupInfo),\n",
      "        chargesFor(context, peer, group, commits, validated, refeed.groupInfo).slice(2),\n",
    ),
  ),
  canary(
    "frames of a re-feeding wait for ever",
    {
      file: "packages/delivery-service/test/scenario/a-service-that-was-set-back-is-fed-forward.test.ts",
      title: "what comes too late behind the frame before it",
    },
    edit(
      `${SERVICE}service/group-refeeds.ts`,
      "clock.after(limits.refeedPauseMs, () => this.dropAll());",
      "clock.after(limits.refeedPauseMs, () => void this.ended);",
    ),
  ),
  canary(
    "a frame of a connection that has ended waits for the next one",
    { file: "packages/delivery-service/test/unit/refeeding.test.ts", title: "a frame whose connection ends" },
    edit(
      `${SERVICE}service/group-refeeds.ts`,
      '      if (this.ended) throw new RejectionError("group/not-open");\n',
      "",
    ),
  ),
  canary(
    "whoever opens a group vouches for a commit that it has not seen",
    {
      file: "packages/delivery-service/test/scenario/a-commit-that-nobody-can-follow-is-taken-back.test.ts",
      title: "also when somebody opens the group",
    },
    edit(
      `${SERVICE}service/group-session.ts`,
      "epoch >= live.epoch && afterSequence >= live.lastCommitSequence;",
      "epoch >= live.epoch && afterSequence >= -1;",
    ),
  ),
  canary(
    "what a peer has put into a request to send again keeps a message from being deleted",
    {
      file: "packages/client-core/test/unit/deleted-text-is-in-no-outbox.test.ts",
      title: "a message is deleted whatever bytes",
    },
    edit(`${CLIENT}store/outbox.ts`, " AND NOT (target_kind = 'device' AND reference IS NULL)\";", '";'),
  ),
  canary(
    "an account that somebody has named keeps us out of a group of that id",
    {
      file: "packages/simulation/test/scenario/ids-that-belong-to-somebody-else.test.ts",
      title: "keeps nobody out of a group by naming",
    },
    edit(
      `${CLIENT}shell/founded-ids.ts`,
      "const isAccount = context.isOwn(group as AccountId) || accepted || blocked || known;",
      "const isAccount = context.isOwn(group as AccountId) || (accepted ?? blocked ?? known) !== undefined;",
    ),
  ),
  canary(
    "a commit of one's own outlives the epoch in which it was made",
    {
      file: "packages/client-core/test/unit/a-commit-taken-back.test.ts",
      title: "a commit of one's own, made in an epoch",
    },
    edit(
      `${MLS}group/merge.ts`,
      "  writes.delete(rowKeys.pending);\n  if (pending === undefined) return writes;",
      "  if (pending === undefined) return writes;\n  writes.delete(rowKeys.pending);",
    ),
    edit(`${MLS}group/load.ts`, "if (content.epoch !== state.public.context.epoch) return undefined;", ""),
  ),
  canary(
    "a commit of one's own stays that refers to proposals which are forgotten",
    {
      file: "packages/client-core/test/unit/a-commit-taken-back.test.ts",
      title: "a commit of one's own that refers",
    },
    edit(`${MLS}group/group.ts`, "if (refers === true) dropPending(this.#inside, writes);", "void refers;"),
  ),
  canary(
    "a loaded group holds the row of its secrets for good",
    {
      file: "packages/mls-groups/test/adversary/what-a-thief-finds.test.ts",
      title: "a group that was loaded keeps no bytes",
    },
    edit(
      `${MLS}group/group-rows.ts`,
      "context: ownContext(readGroupContext(reader)),",
      "context: readGroupContext(reader),",
    ),
  ),
  canary(
    "the load of a tree costs nobody anything",
    {
      file: "packages/delivery-service/test/adversary/strangers-and-trees.test.ts",
      title: "who has more groups loaded than are kept",
    },
    edit(
      `${SERVICE}service/tree-charges.ts`,
      "const cost = Math.min(bytes, rate.burst);",
      "const cost = Math.min(bytes, 0);",
    ),
  ),
  canary(
    "whoever waits for a tree is refused for another's load",
    {
      file: "packages/delivery-service/test/adversary/strangers-and-trees.test.ts",
      title: "nobody who waits for a tree is refused",
    },
    edit(
      `${SERVICE}service/tree-routes.ts`,
      "if (!(error instanceof DelayedRejection)) throw error;",
      "throw error;",
    ),
  ),
  canary(
    "whoever asks about a group is refused for another's load",
    {
      file: "packages/delivery-service/test/contract/commit-validator.test.ts",
      title: "refuses nobody else who waits",
    },
    edit(
      `${SERVICE}adapters/worker-validator.ts`,
      "if (!(error instanceof RejectionError)) throw error;",
      "throw error;",
    ),
  ),
  canary(
    "a switching commit that was taken back still brings its members over",
    story("a-switch-that-is-taken-back", "a creator that has its own switching commit taken back"),
    edit(
      `${CLIENT}core/migration/decisions.ts`,
      '  if (epoch < switchPoint.epoch) return { kind: "wait" };\n',
      "",
    ),
    edit(
      `${CLIENT}shell/migration/switcher.ts`,
      "} else if (reached !== undefined && reached.epoch > epoch) {",
      "} else if (reached !== undefined && reached.epoch > epoch && id.length === 0) {",
    ),
  ),
  canary(
    "whoever has gone over goes back to where the group is only prepared",
    story("a-switch-that-is-taken-back", "whoever has gone over by a commit"),
    edit(
      `${CLIENT}shell/communities/log-reader.ts`,
      "isProven && !this.isSwitch(id, epoch) && !letsIn",
      "isProven && !letsIn",
    ),
  ),
  canary(
    "a record with more role holders than an MLS group can have ends its creator",
    story("roles-that-no-mls-group-can-have", "a group that gets too many admins"),
    edit(`${CLIENT}core/migration/decisions.ts`, '  if (!facts.fitsContext) return "give-up";\n', ""),
  ),
  canary(
    "nobody asks whether a group that recovers has switched",
    story(
      "the-creator-of-a-move-to-mls-vanishes",
      "a creator that vanishes when the record has its group go on",
    ),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "!hasLease(migration.record(id).state) || !hasCommit",
      'migration.record(id).state !== "ready" || !hasCommit',
    ),
  ),
  canary(
    "a removal of somebody who has left parts those who had gone over",
    story("an-admin-that-does-not-let-a-group-recover", "an admin that has not gone over removes somebody"),
    edit(
      `${CLIENT}core/group-record.ts`,
      'removed === undefined && state.migration.state === "recovering"',
      'removed === undefined && state.migration.state === "recovering" && change.revision < 0',
    ),
  ),
  canary(
    "whoever hears of a switch and of its recovery at once goes over to what is given up",
    story(
      "an-admin-that-does-not-let-a-group-recover",
      "whoever hears of a switch and of its recovery at once",
    ),
    edit(
      `${CLIENT}shell/migration/migrations.ts`,
      "if (present.migration.generation > after.migration.generation) break;",
      "",
    ),
  ),
  canary(
    "what the service takes for a group that is given up counts for the next one",
    story("what-is-under-way-when-a-group-moves-to-mls", "what the service takes for a group"),
    edit(
      `${CLIENT}shell/outbox-worker.ts`,
      'if (this.context.outbox.state(row.id) === "ready") this.accepted(row);',
      "this.accepted(row);",
    ),
  ),
  canary(
    "what is beyond five hundred is lost to whoever goes over late",
    story("what-is-under-way-when-a-group-moves-to-mls", "whoever goes over late misses nothing"),
    edit(
      `${CLIENT}shell/communities/log-reader.ts`,
      "if (!this.effects.mayTakeMore(id)) {",
      "if (!this.effects.mayTakeMore(id) && id.length === 0) {",
    ),
  ),
];
