import type { CertificateAuthorityKeys, CertificateStore } from "../ports/certificates.ts";
import { blob, optionalBlob, type SqliteDatabase, type Statements } from "./sqlite-database.ts";

/** {@link CertificateStore} on SQLite. */
export class SqliteCertificateStore implements CertificateStore {
  private readonly database: SqliteDatabase;

  constructor(database: SqliteDatabase) {
    this.database = database;
  }

  load(): Promise<CertificateAuthorityKeys | undefined> {
    return this.database.read(loadKeys);
  }

  saveFirst(keys: CertificateAuthorityKeys): Promise<CertificateAuthorityKeys> {
    return this.database.write((statements) => {
      statements
        .prepare("INSERT INTO certificate_authority VALUES (1, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING")
        .run(
          keys.trustRootPublicKey,
          keys.trustRootPrivateKey ?? null,
          keys.signerKeyId,
          keys.signerCertificate,
          keys.signerPrivateKey,
        );
      return loadKeys(statements)!;
    });
  }
}

function loadKeys(statements: Statements): CertificateAuthorityKeys | undefined {
  const row = statements.prepare("SELECT * FROM certificate_authority").get();
  if (row === undefined) return undefined;
  return {
    trustRootPublicKey: blob(row["trust_root_public"]),
    trustRootPrivateKey: optionalBlob(row["trust_root_private"]),
    signerKeyId: row["signer_key_id"] as number,
    signerCertificate: blob(row["signer_certificate"]),
    signerPrivateKey: blob(row["signer_private"]),
  };
}
