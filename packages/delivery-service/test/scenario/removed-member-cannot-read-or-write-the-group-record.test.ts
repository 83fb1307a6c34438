import { type Bytes, formatId, type GroupId, groupId } from "@murmuration/base";
import { encodeMessage, groupWriteRequest, PROTOBUF_CONTENT_TYPE } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  fetchChallenge,
  type Generation,
  generateGeneration as generation,
  groupAccessHeader as header,
  readGroup,
  writeGroup,
} from "../support/group-access.ts";
import { random } from "../support/random.ts";
import { movableClock, startTestService, type TestService } from "../support/service.ts";
import { callRaw, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

describe("removed member cannot read or write the group record", () => {
  let service: TestService;
  const clock = movableClock(Date.now());
  beforeEach(async () => {
    service = await startTestService({ clock });
  });
  afterEach(() => service.stop());

  const challenge = () => fetchChallenge(service.base);
  const read = (id: GroupId, key: Generation) => readGroup(service.base, id, key);
  const write = (id: GroupId, key: Generation, revision: number, blob: Bytes, next?: Generation) =>
    writeGroup(service.base, id, key, revision, blob, next);

  it("not with the old key, not with the old blob replayed, and its submits stop with its removal", async () => {
    const [id, first, second] = [groupId(random(16)), generation(), generation()];
    const oldBlob = random(500);
    expect((await write(id, first, 0, oldBlob, first)).body).toEqual({ revision: 1 });
    expect((await read(id, first)).body).toEqual({ revision: 1, blob: oldBlob });

    const removal = random(510);
    expect((await write(id, first, 1, removal, second)).body).toEqual({ revision: 2 });

    // The removed member knows the first generation and everything it signed.
    expect((await read(id, first)).rejection?.code).toBe("group/access-denied");
    for (const revision of [0, 1, 2]) {
      const replay = await write(id, first, revision, oldBlob, first);
      expect(replay.rejection?.code).toBe("group/access-denied");
    }
    expect((await read(id, second)).body).toEqual({ revision: 2, blob: removal });

    const bob = await TestDevice.register(service.base);
    const sender = await TestSocket.anonymous(service.port);
    const submit = (fence: Bytes) =>
      sender.request({ kind: "submitSealed", ...sealedTo([bob]), fence: { groupId: id, fence } });
    expect(await submit(first.fence)).toMatchObject({ kind: "rejection", code: "submit/fence-outdated" });
    expect(await submit(second.fence)).toMatchObject({ kind: "submitAccepted" });
  });

  it("a recorded request is of no use: challenges are single-use, for one operation, one group, one body", async () => {
    const [id, other, key] = [groupId(random(16)), groupId(random(16)), generation()];
    await write(id, key, 0, random(100), key);
    await write(other, key, 0, random(100), key);
    const nothing = new Uint8Array(0);
    const get = async (group: GroupId, headers: Record<string, string>) => {
      const path = `/v1/groups/${formatId(group)}`;
      return (await callRaw(service.base, "GET", path, headers)).rejection?.code;
    };
    const recorded = header(id, key, "read", await challenge(), nothing);
    expect(await get(id, recorded)).toBeUndefined();
    expect(await get(id, recorded)).toBe("group/challenge-used");

    expect(await get(other, header(id, key, "read", await challenge(), nothing))).toBe("group/access-denied");
    expect(await get(id, header(id, key, "write", await challenge(), nothing))).toBe("group/access-denied");

    const late = header(id, key, "read", await challenge(), nothing);
    clock.advance(30_000);
    expect(await get(id, late)).toBe("group/challenge-used");

    const [meant, swapped] = [random(50), random(50)].map((blob) =>
      encodeMessage(groupWriteRequest, { expectedRevision: 1, blob }),
    );
    const signed = header(id, key, "write", await challenge(), meant!);
    const answer = await callRaw(
      service.base,
      "PUT",
      `/v1/groups/${formatId(id)}`,
      { ...signed, "content-type": PROTOBUF_CONTENT_TYPE },
      swapped,
    );
    expect(answer.rejection?.code).toBe("group/access-denied");
  });

  it("of two changes on one revision one wins; the other learns it and its blob is nowhere", async () => {
    const [id, key] = [groupId(random(16)), generation()];
    await write(id, key, 0, random(100), key);
    const blobs = [random(100), random(100)];
    const answers = await Promise.all(blobs.map((blob) => write(id, key, 1, blob)));
    const codes = answers.map((answer) => answer.rejection?.code ?? "stored");
    expect(codes.toSorted()).toEqual(["group/revision-conflict", "stored"]);
    expect((await read(id, key)).body).toEqual({ revision: 2, blob: blobs[codes.indexOf("stored")] });
  });

  it("nobody takes over a group that exists, or changes one that does not", async () => {
    const [id, key, thief] = [groupId(random(16)), generation(), generation()];
    await write(id, key, 0, random(100), key);
    expect((await write(id, thief, 0, random(100), thief)).rejection?.code).toBe("group/access-denied");
    const unknown = groupId(random(16));
    expect((await read(unknown, key)).rejection?.code).toBe("group/unknown");
    expect((await write(unknown, key, 3, random(9), key)).rejection?.code).toBe("group/unknown");
    expect((await write(unknown, key, 0, random(9))).rejection?.code).toBe("group/generation-missing");
    expect((await write(unknown, key, 0, random(9), thief)).rejection?.code).toBe("group/access-denied");
  });
});
