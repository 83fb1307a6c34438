/**
 * The official MLS test vectors, pinned: one commit of the MLS working group's repository, and for each file
 * its size and SHA-256. The files themselves are not part of this repository; see README.md.
 */

/** The commit of mlswg/mls-implementations whose test-vectors folder is meant. */
export const OFFICIAL_COMMIT = "89134d5de0222bd99598ba5849003d2e85e63116";

/** Where a file is downloaded from; `/<name>.json` follows. */
export const OFFICIAL_SOURCE = `https://raw.githubusercontent.com/mlswg/mls-implementations/${OFFICIAL_COMMIT}/test-vectors`;

interface Entry {
  readonly name: string;
  /** Bytes of the file. */
  readonly size: number;
  /** SHA-256 of the file, lower-case hexadecimal. */
  readonly sha256: string;
}

const entries = [
  {
    name: "crypto-basics",
    size: 20116,
    sha256: "17cfcf89af9f51d0f2aa7af77f6f9ec99376a039214b6d42a6f11646b83e8c29",
  },
  {
    name: "deserialization",
    size: 934,
    sha256: "1e394706e79f77df71454e5970f2aa736d4ab8b6c7e3219dd5609992388a953e",
  },
  {
    name: "key-schedule",
    size: 101795,
    sha256: "05aa9a68bd2538ace72d8c53375984cc728ef62220ebf314df675708546d97a7",
  },
  {
    name: "message-protection",
    size: 30812,
    sha256: "f7c1ae62ce63c3003e526d539c99f2b1444f65ee0a487d3a5667d46867526c45",
  },
  {
    name: "messages",
    size: 2685714,
    sha256: "b194abe1561995223482dbad51c180146920dc2f637e74d01e07a388308791fb",
  },
  {
    name: "passive-client-handling-commit",
    size: 1285850,
    sha256: "b24949fdf857bf79d511f57504a8bdc7ce3247eb199684745e439c11b1a1da21",
  },
  {
    name: "passive-client-random",
    size: 1948393,
    sha256: "0095d863e9d316872e237fc708debcd20ba2687ee905a3e831f97dd3e578d3c1",
  },
  {
    name: "passive-client-welcome",
    size: 719346,
    sha256: "92ebb04b67b1aca4290965ae363650921842ceebe275bd79a2733414078d849c",
  },
  {
    name: "psk_secret",
    size: 155437,
    sha256: "2b534969dba0b65a04b7d790496af5c0ccdb472b3fc4ca25c8c82df3e8523784",
  },
  {
    name: "secret-tree",
    size: 211298,
    sha256: "08f92e6272452e2c832e32d38e16cf0c4aa28967e47d3842c60bc354c6b67a94",
  },
  {
    name: "transcript-hashes",
    size: 7328,
    sha256: "58046b58fbd98519b4e60953a105f550e4b427e2b140ea67dedcb751260eecb8",
  },
  {
    name: "tree-math",
    size: 91438,
    sha256: "27f04891f56106593b74b674445f01b845e173953770c084deb2f8cf5592e2fc",
  },
  {
    name: "tree-operations",
    size: 50670,
    sha256: "9a25f8720714d1256ba2dad8d83a660ba0bae0d33ed15c682b9d74a5d67aad0a",
  },
  {
    name: "tree-validation",
    size: 1383087,
    sha256: "b66a432d93b520623f0640835ed43b9dfc95e116b8be081d81581d7c11e67a37",
  },
  {
    name: "treekem",
    size: 1970683,
    sha256: "d8bbdf78394797f21db7476fd286af6830ebcb18d2e3b2c839fecd4eb11056f8",
  },
  {
    name: "welcome",
    size: 16815,
    sha256: "06be9d5c99817ef2545e4b15b8e73fd9b604685a8e55b59ca168eda98e236502",
  },
] as const satisfies readonly Entry[];

/** A name of an official file, without its `.json`. */
export type VectorName = (typeof entries)[number]["name"];

export interface ManifestEntry extends Entry {
  readonly name: VectorName;
  readonly url: string;
}

/** All official files, in alphabetical order. */
export const manifest: readonly ManifestEntry[] = entries.map((entry) => ({
  ...entry,
  url: `${OFFICIAL_SOURCE}/${entry.name}.json`,
}));

/** The manifest's entry of one file. */
export function manifestEntry(name: VectorName): ManifestEntry {
  return manifest.find((entry) => entry.name === name)!;
}
