import { concatBytes } from "@murmuration/base";
import { type CommunityContext, type Extension, GROUP_PROFILE_EXTENSION } from "@murmuration/mls-groups";
import { describe, expect, test } from "vitest";
import {
  encodeProfile,
  hashOfProfile,
  profileOfWelcome,
  welcomeExtensions,
} from "../../src/shell/communities/profile.ts";

const profile = { title: "Flock", description: "Starlings only" };
const encoded = encodeProfile(profile);
const contextOf = (bytes: Uint8Array) => ({ profileHash: hashOfProfile(bytes) }) as CommunityContext;
const extension = (data: Uint8Array): readonly Extension[] => [{ type: GROUP_PROFILE_EXTENSION, data }];
const lengthOf = (bytes: Uint8Array) => welcomeExtensions(new Uint8Array(bytes))[0]!.data.length;

describe("the profile in a Welcome", () => {
  test("comes out as it went in", () => {
    expect(profileOfWelcome(welcomeExtensions(encoded), contextOf(encoded))).toEqual({ encoded, profile });
  });

  test("is not there where the adder does not know it", () => {
    expect(welcomeExtensions(undefined)).toEqual([]);
    expect(profileOfWelcome([], contextOf(encoded))).toBeUndefined();
  });

  test("shows nothing of the length of a short one, and little of that of a long one", () => {
    const lengths = (from: number, to: number) =>
      new Set(Array.from({ length: to - from }, (_, index) => lengthOf(new Uint8Array(from + index))));
    expect([...lengths(0, 150)]).toEqual([160]);
    expect(lengths(150, 2_400).size).toBeLessThan(60);
  });

  test("counts for nothing where it is another than the group's, or is no profile, or not in the one form that is said", () => {
    const other = encodeProfile({ title: "Crows", description: "" });
    expect(profileOfWelcome(welcomeExtensions(other), contextOf(encoded))).toBeUndefined();
    const junk = new Uint8Array([0xff, 0xff, 0xff]);
    expect(profileOfWelcome(welcomeExtensions(junk), contextOf(junk))).toBeUndefined();
    // A field that nobody knows: whoever says the profile again leaves it out, and the hash is another one.
    const padded = concatBytes(encoded, new Uint8Array([0xf8, 0x07, 0x01]));
    expect(profileOfWelcome(welcomeExtensions(padded), contextOf(padded))).toBeUndefined();
  });

  test("counts for nothing behind padding that says something, or in an extension that ends too early", () => {
    const { data } = welcomeExtensions(encoded)[0]!;
    const marked = data.slice();
    marked[marked.length - 1] = 1;
    expect(profileOfWelcome(extension(marked), contextOf(encoded))).toBeUndefined();
    for (const length of [0, 1, encoded.length])
      expect(profileOfWelcome(extension(data.slice(0, length)), contextOf(encoded))).toBeUndefined();
  });
});
