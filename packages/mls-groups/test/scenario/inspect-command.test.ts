import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { toHex } from "@murmuration/base";
import { describe, expect, it } from "vitest";
import { encodeMlsMessage } from "../../src/structs/mls-message.ts";
import { keyPackage } from "../unit/samples.ts";

const root = resolve(import.meta.dirname, "../../../..");

function run(...args: string[]) {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      "--conditions=@murmuration/source",
      "--experimental-strip-types",
      "--disable-warning=ExperimentalWarning",
      join(root, "tools/inspect.ts"),
      ...args,
    ],
    { encoding: "utf8", timeout: 30_000 },
  );
  return { status, stdout, lines: stderr.split("\n").filter((line) => line !== "") };
}

describe("npm run inspect", () => {
  const message = encodeMlsMessage({ wireFormat: "mls_key_package", keyPackage: keyPackage() });

  it("shows the same for hexadecimal, base64, a binary file and a text file", () => {
    const folder = mkdtempSync(join(tmpdir(), "inspect-"));
    try {
      writeFileSync(join(folder, "message.bin"), message);
      writeFileSync(join(folder, "message.txt"), `${Buffer.from(message).toString("base64")}\n`);
      const outputs = [
        run(toHex(message)),
        run(Buffer.from(message).toString("base64url")),
        run(join(folder, "message.bin")),
        run(join(folder, "message.txt")),
        run("--as", "MLSMessage", toHex(message)),
      ];
      for (const { status, stdout } of outputs) {
        expect(status).toBe(0);
        expect(stdout).toBe(outputs[0]!.stdout);
      }
      expect(outputs[0]!.stdout).toMatch(/^MLSMessage: mls_key_package\n/);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it.each([[[]], [["one", "two"]], [["--as", "Nothing", "00"]], [["--help"]], [["no such file!"]], [[root]]])(
    "wrong usage %j exits 2 with one sentence",
    (args: string[]) => {
      const { status, stdout, lines } = run(...args);
      expect([status, stdout, lines.length]).toEqual([2, "", 1]);
      expect(lines[0]).toMatch(/\.$/);
    },
  );

  it("hostile bytes exit 1 with a code and no stack", () => {
    const { status, stdout, lines } = run(toHex(message.subarray(0, 50)));
    expect([status, stdout, lines]).toEqual([1, "", ["Refused: coder/truncated"]]);
  });
});
