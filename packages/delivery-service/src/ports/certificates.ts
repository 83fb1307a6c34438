import type { Bytes } from "@murmuration/base";

/** The keys of the sender-certificate authority. There is no row for a certificate issued. */
export interface CertificateAuthorityKeys {
  /** 33 bytes; clients pin it. */
  readonly trustRootPublicKey: Bytes;
  /** Absent when the operator keeps it offline. */
  readonly trustRootPrivateKey: Bytes | undefined;
  readonly signerKeyId: number;
  readonly signerCertificate: Bytes;
  readonly signerPrivateKey: Bytes;
}

export interface CertificateStore {
  load(): Promise<CertificateAuthorityKeys | undefined>;
  /** Stores the first keys; returns what is stored, which is another node's if that was faster. */
  saveFirst(keys: CertificateAuthorityKeys): Promise<CertificateAuthorityKeys>;
}
