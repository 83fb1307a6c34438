import { DatabaseSync } from "node:sqlite";
import type { Bytes } from "@murmuration/base";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { random } from "../support/random.ts";
import { startTestService, type TestService } from "../support/service.ts";
import { sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const LOST = { code: 1013, reason: "service/mailboxes-lost" };

describe("a store that was set back", () => {
  let service: TestService;
  beforeEach(async () => {
    service = await startTestService();
  });
  afterEach(() => service.stop());

  const hello = async (device: TestDevice, storeMark?: Bytes) => {
    const socket = await TestSocket.open(service.port);
    const marked = storeMark === undefined ? {} : { storeMark };
    const reply = await socket.request({ kind: "hello", versions: [1], auth: device.auth(), ...marked });
    if (reply.kind !== "helloReply") throw new Error(reply.kind);
    return { socket, reply };
  };
  /** As where a copy takes its place: it knows nothing of what this run has written. */
  const setBack = () => {
    const file = new DatabaseSync(`${service.directory}/delivery-service.sqlite`);
    file.exec("DELETE FROM runs");
    file.close();
  };

  it("is another one from the first Hello that shows more, which is answered at once; everybody else is sent back", async () => {
    const [alice, bob] = [await TestDevice.register(service.base), await TestDevice.register(service.base)];
    const anonymous = await TestSocket.anonymous(service.port);
    await anonymous.request({ kind: "submitSealed", ...sealedTo([bob], random(20)) });
    const before = await hello(alice);
    expect(before.reply.storeMark).toHaveLength(44);
    await before.socket.close();
    const others = await hello(bob);
    setBack();
    // One of another service, and none at all, say nothing.
    for (const mark of [random(44), undefined]) {
      const { reply, socket } = await hello(alice, mark);
      expect(reply.storeId).toEqual(before.reply.storeId);
      await socket.close();
    }
    const after = await hello(alice, before.reply.storeMark);
    expect(after.reply.storeId).not.toEqual(before.reply.storeId);
    expect(await Promise.all([others.socket.closed, anonymous.closed])).toEqual([LOST, LOST]);
    // It is that one then, whoever shows what of the one before.
    const again = await hello(bob, others.reply.storeMark);
    expect(again.reply.storeId).toEqual(after.reply.storeId);
    expect((await after.socket.request({ kind: "ping" })).kind).toBe("pong");
  });

  it("takes no mark from a connection that is nobody's", async () => {
    const alice = await TestDevice.register(service.base);
    const { reply, socket } = await hello(alice);
    await socket.close();
    setBack();
    const stranger = await TestSocket.open(service.port);
    const answer = await stranger.request({ kind: "hello", versions: [1], storeMark: reply.storeMark! });
    expect(answer).toMatchObject({ kind: "helloReply", storeId: reply.storeId });
    expect(answer).not.toHaveProperty("storeMark");
  });
});
