import { once } from "node:events";
import { request } from "node:http";
import { blobId, formatId } from "@murmuration/base";
import { BLOB_CONTENT_TYPE } from "@murmuration/wire";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { random } from "../support/random.ts";
import { temporaryDirectory } from "../support/service.ts";
import { type ServiceProcess, startNode } from "../support/service-process.ts";
import { callRaw, sealedTo, TestDevice } from "../support/test-device.ts";
import { TestSocket } from "../support/test-socket.ts";

const DRAIN_SECONDS = 5;
/** Beside draining: closing the store, and the end of the process on a busy machine. */
const SLACK_MS = 5_000;

/** An upload of an attachment of which the node has heard; its last byte is sent by `finish`. */
async function beginUpload(node: ServiceProcess, owner: TestDevice) {
  const bytes = random(50_000);
  const sending = request(`${node.base}/v1/blobs/${formatId(blobId(random(16)))}`, {
    method: "PUT",
    headers: {
      ...owner.headers(),
      "content-type": BLOB_CONTENT_TYPE,
      "content-length": bytes.length,
      expect: "100-continue",
    },
  });
  const answered = new Promise<number | undefined>((resolve) => {
    sending.on("response", (response) => resolve(response.resume().statusCode));
    sending.on("error", () => resolve(undefined));
  });
  sending.flushHeaders();
  await once(sending, "continue");
  sending.write(bytes.subarray(1));
  return { answered, finish: () => sending.end(bytes.subarray(0, 1)) };
}

describe("a node drains within its time", () => {
  const directory = temporaryDirectory();
  let node: ServiceProcess;
  let bob: TestDevice;
  beforeEach(async () => {
    node = await startNode({
      MURMURATION_DATA: directory.path,
      MURMURATION_DRAIN_SECONDS: String(DRAIN_SECONDS),
      MURMURATION_RECONNECT_SECONDS: "7",
    });
    bob = await TestDevice.register(node.base);
  });
  afterEach(async () => {
    await node.kill();
    directory.remove();
  });

  const terminated = async () => {
    const startedAt = performance.now();
    const code = await node.terminate();
    return { code, tookMs: performance.now() - startedAt };
  };

  it("tells every client when to come back, answers what is under way, and ends with 0", async () => {
    const own = await TestSocket.device(node.port, bob);
    const sender = await TestSocket.anonymous(node.port);
    const upload = await beginUpload(node, bob);
    const submits = Array.from({ length: 20 }, () =>
      sender.request({ kind: "submitSealed", ...sealedTo([bob]) }),
    );
    // The first is answered: the others have come as well and are worked on.
    await submits[0];
    const ended = terminated();
    expect(await own.next("drain")).toEqual({ kind: "drain", retryAfterMs: 7_000 });
    const kinds = (await Promise.all(submits)).map((answer) => answer.kind);
    expect(kinds.filter((kind) => kind !== "submitAccepted" && kind !== "rejection")).toEqual([]);
    expect(await own.closed).toMatchObject({ code: 1001, reason: "service/draining" });
    expect(await sender.closed).toMatchObject({ code: 1001 });

    // The upload still holds the process: it says what it is doing, and takes nothing new.
    expect(await (await fetch(`${node.base}/health`)).text()).toBe("draining\n");
    expect((await fetch(`${node.base}/health/alive`)).status).toBe(200);
    expect((await callRaw(node.base, "GET", "/v1/info")).rejection?.code).toBe("service/draining");
    await expect(TestSocket.open(node.port)).rejects.toThrow("503");
    upload.finish();
    expect(await upload.answered).toBe(204);

    const { code, tookMs } = await ended;
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(DRAIN_SECONDS * 1_000);

    // What was accepted is there for the next node.
    const accepted = kinds.filter((kind) => kind === "submitAccepted").length;
    node = await startNode({ MURMURATION_DATA: directory.path });
    const later = await TestSocket.device(node.port, bob);
    expect(await later.envelopes(accepted)).toHaveLength(accepted);
  });

  it("does not wait longer for a request that never ends, and ends with 0 as well", async () => {
    const upload = await beginUpload(node, bob);
    // The service reads the upload once it has answered somebody who came after it.
    await fetch(`${node.base}/health`);
    const { code, tookMs } = await terminated();
    expect(code).toBe(0);
    expect(tookMs).toBeGreaterThan(DRAIN_SECONDS * 1_000 - 500);
    expect(tookMs).toBeLessThan(DRAIN_SECONDS * 1_000 + SLACK_MS);
    expect(await upload.answered).not.toBe(204);
  });

  it("does not wait for a client that reads nothing any more", async () => {
    const deaf = await TestSocket.device(node.port, bob);
    deaf.webSocket.pause();
    const { code, tookMs } = await terminated();
    expect(code).toBe(0);
    expect(tookMs).toBeLessThan(DRAIN_SECONDS * 1_000 + SLACK_MS);
    deaf.webSocket.terminate();
  });

  it("a second signal ends it at once", async () => {
    await beginUpload(node, bob);
    await fetch(`${node.base}/health`);
    const ended = node.terminate();
    await expect.poll(async () => (await fetch(`${node.base}/health`)).text()).toBe("draining\n");
    process.kill(node.pid, "SIGTERM");
    expect(await ended).toBe(1);
  });
});
