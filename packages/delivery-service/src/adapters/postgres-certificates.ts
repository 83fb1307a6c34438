import type { CertificateAuthorityKeys, CertificateStore } from "../ports/certificates.ts";
import type { PostgresDatabase, PostgresRow } from "./postgres-database.ts";
import { bytea, optionalBytea } from "./postgres-values.ts";

const SELECT = "SELECT * FROM certificate_authority";

/** {@link CertificateStore} on PostgreSQL: of several nodes that start on an empty database one makes the keys. */
export class PostgresCertificateStore implements CertificateStore {
  private readonly database: PostgresDatabase;

  constructor(database: PostgresDatabase) {
    this.database = database;
  }

  async load(): Promise<CertificateAuthorityKeys | undefined> {
    const row = await this.database.read((statements) => statements.get(SELECT));
    return row && toKeys(row);
  }

  saveFirst(keys: CertificateAuthorityKeys): Promise<CertificateAuthorityKeys> {
    return this.database.write("certificate authority", async (statements) => {
      const [, row] = await Promise.all([
        // Waits for another node that is about to store its own.
        statements.run(
          "INSERT INTO certificate_authority VALUES (true, $1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
          keys.trustRootPublicKey,
          keys.trustRootPrivateKey ?? null,
          keys.signerKeyId,
          keys.signerCertificate,
          keys.signerPrivateKey,
        ),
        statements.get(SELECT),
      ]);
      return toKeys(row!);
    });
  }
}

function toKeys(row: PostgresRow): CertificateAuthorityKeys {
  return {
    trustRootPublicKey: bytea(row["trust_root_public"]),
    trustRootPrivateKey: optionalBytea(row["trust_root_private"]),
    signerKeyId: row["signer_key_id"] as number,
    signerCertificate: bytea(row["signer_certificate"]),
    signerPrivateKey: bytea(row["signer_private"]),
  };
}
