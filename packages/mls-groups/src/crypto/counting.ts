import type { Bytes } from "@murmuration/base";
import type { CryptoProvider, VerifyJob } from "./provider.ts";

/** Calls of a provider's operations. What HPKE does inside counts once, as the HPKE operation. */
export interface OperationCounts {
  random: number;
  hash: number;
  /** Bytes that went into `hash`. */
  hashBytes: number;
  mac: number;
  extract: number;
  expand: number;
  seal: number;
  open: number;
  generateSignatureKeyPair: number;
  sign: number;
  /** A batch counts each of its jobs. */
  verify: number;
  generateHpkeKeyPair: number;
  deriveHpkeKeyPair: number;
  isValidSignaturePublicKey: number;
  isValidHpkePublicKey: number;
  hpkeSeal: number;
  hpkeOpen: number;
  hpkeExportSend: number;
  hpkeExportReceive: number;
}

function noCounts(): OperationCounts {
  return {
    random: 0,
    hash: 0,
    hashBytes: 0,
    mac: 0,
    extract: 0,
    expand: 0,
    seal: 0,
    open: 0,
    generateSignatureKeyPair: 0,
    sign: 0,
    verify: 0,
    generateHpkeKeyPair: 0,
    deriveHpkeKeyPair: 0,
    isValidSignaturePublicKey: 0,
    isValidHpkePublicKey: 0,
    hpkeSeal: 0,
    hpkeOpen: 0,
    hpkeExportSend: 0,
    hpkeExportReceive: 0,
  };
}

/** A provider that counts, the live counts, and a way to start again from zero. */
export interface CountingCrypto {
  readonly provider: CryptoProvider;
  readonly counts: Readonly<OperationCounts>;
  reset(): void;
}

/** Wraps a provider so that every operation asked of it is counted exactly; results are those of the provider. */
export function counting(inner: CryptoProvider): CountingCrypto {
  const counts = noCounts();
  const counted =
    <A extends unknown[], R>(name: keyof OperationCounts, operation: (...args: A) => R) =>
    (...args: A): R => {
      counts[name]++;
      return operation.apply(inner, args);
    };
  const provider: CryptoProvider = {
    suite: inner.suite,
    random: counted("random", inner.random),
    hash(data: Uint8Array, ...more: readonly Uint8Array[]): Bytes {
      counts.hash++;
      counts.hashBytes += more.reduce((sum, part) => sum + part.length, data.length);
      return inner.hash(data, ...more);
    },
    mac: counted("mac", inner.mac),
    extract: counted("extract", inner.extract),
    expand: counted("expand", inner.expand),
    seal: counted("seal", inner.seal),
    open: counted("open", inner.open),
    generateSignatureKeyPair: counted("generateSignatureKeyPair", inner.generateSignatureKeyPair),
    sign: counted("sign", inner.sign),
    verify: counted("verify", inner.verify),
    ...(inner.expectSigners === undefined
      ? {}
      : { expectSigners: (publicKeys: readonly Uint8Array[]) => inner.expectSigners!(publicKeys) }),
    ...(inner.verifyBatch === undefined
      ? {}
      : {
          verifyBatch(jobs: readonly VerifyJob[]): Promise<boolean[]> {
            counts.verify += jobs.length;
            return inner.verifyBatch!(jobs);
          },
        }),
    isValidSignaturePublicKey: counted("isValidSignaturePublicKey", inner.isValidSignaturePublicKey),
    generateHpkeKeyPair: counted("generateHpkeKeyPair", inner.generateHpkeKeyPair),
    deriveHpkeKeyPair: counted("deriveHpkeKeyPair", inner.deriveHpkeKeyPair),
    isValidHpkePublicKey: counted("isValidHpkePublicKey", inner.isValidHpkePublicKey),
    hpkeSeal: counted("hpkeSeal", inner.hpkeSeal),
    hpkeOpen: counted("hpkeOpen", inner.hpkeOpen),
    hpkeExportSend: counted("hpkeExportSend", inner.hpkeExportSend),
    hpkeExportReceive: counted("hpkeExportReceive", inner.hpkeExportReceive),
  };
  return { provider, counts, reset: () => void Object.assign(counts, noCounts()) };
}
