/** Which implementations there are: adding one is a file and a line here. */
import type { MlsImplementation } from "./implementation.ts";

const factories: Readonly<Record<string, () => Promise<MlsImplementation<unknown>>>> = {
  murmuration: async () => {
    const { murmuration } = await import("./murmuration.ts");
    return murmuration() as MlsImplementation<unknown>;
  },
  "ts-mls": async () => {
    const [{ tsMls }, { defaultSuite }] = await Promise.all([
      import("./ts-mls.ts"),
      import("./ts-mls-crypto.ts"),
    ]);
    return tsMls(await defaultSuite()) as MlsImplementation<unknown>;
  },
  "ts-mls-native": async () => {
    const [{ tsMls }, { nativeSuite }] = await Promise.all([
      import("./ts-mls.ts"),
      import("./ts-mls-crypto.ts"),
    ]);
    return tsMls(nativeSuite()) as MlsImplementation<unknown>;
  },
};

export const measurable: readonly string[] = Object.keys(factories);

export async function createImplementation(name: string): Promise<MlsImplementation<unknown>> {
  return factories[name]!();
}
