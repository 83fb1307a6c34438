import { nativeCrypto } from "../src/crypto/native.ts";
import { portableCrypto } from "../src/crypto/portable.ts";

/** Both providers under the names that test titles use. */
export const providers = [
  { name: "native", make: nativeCrypto },
  { name: "portable", make: portableCrypto },
] as const;
