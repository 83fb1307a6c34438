import type { Bytes } from "@murmuration/base";
import type { PushKind, PushRegistration, PushToken } from "@murmuration/wire/push";
import type { Row, Storage } from "../ports/storage.ts";

export interface RegistrationRow {
  readonly id: number;
  /** Origin. */
  readonly gateway: string;
  /** As the application gave it last. */
  readonly token: PushToken;
  /** What the gateway gave for it, and its key at that time; undefined before. */
  readonly given: (PushRegistration & { readonly handleKey: Bytes }) | undefined;
  /** The gateway has this token, and no other one. */
  readonly told: boolean;
  /** When the gateway is to be asked again. */
  readonly lookAtMs: number;
  /** Why the gateway does not take the token; empty where it does, or was not asked. */
  readonly refusal: string;
  /** Since when it is to be deleted at its gateway; undefined for the one in use. */
  readonly overAtMs: number | undefined;
}

/** A handle that the service has, or may have. */
export interface HandleRow {
  readonly place: Bytes;
  /** What it was made for; where something else is wanted it is replaced. */
  readonly terms: string;
  /** 0: it is not known whether the service has it. */
  readonly renewAtMs: number;
}

const bytesOf = (row: Row, key: string): Bytes => new Uint8Array(row[key] as Bytes);

function registrationOf(row: Row): RegistrationRow {
  return {
    id: row["id"] as number,
    gateway: row["gateway"] as string,
    token: { kind: row["kind"] as PushKind, address: row["address"] as string },
    given:
      row["token_id"] === null
        ? undefined
        : {
            tokenId: bytesOf(row, "token_id"),
            secret: row["secret"] as string,
            handleKey: bytesOf(row, "handle_key"),
          },
    told: row["told"] === 1,
    lookAtMs: row["look_at"] as number,
    refusal: row["refusal"] as string,
    overAtMs: (row["over_at"] as number | null) ?? undefined,
  };
}

/** What is registered at push gateways, and which handles the service has. */
export class PushStore {
  private readonly storage: Storage;

  constructor(storage: Storage) {
    this.storage = storage;
  }

  /** The registration in use. */
  current(): RegistrationRow | undefined {
    const row = this.storage.get("SELECT * FROM push_registration WHERE over_at IS NULL");
    return row && registrationOf(row);
  }

  /** Registrations that are to be deleted at their gateways. */
  over(): readonly RegistrationRow[] {
    return this.storage
      .all("SELECT * FROM push_registration WHERE over_at IS NOT NULL ORDER BY id")
      .map(registrationOf);
  }

  add(gateway: string, { kind, address }: PushToken): void {
    this.storage.run("INSERT INTO push_registration (gateway, kind, address) VALUES (?, ?, ?)", [
      gateway,
      kind,
      address,
    ]);
  }

  /** Another token for the registration in use. */
  setToken(id: number, { kind, address }: PushToken): void {
    this.storage.run(
      "UPDATE push_registration SET kind = ?, address = ?, told = 0, refusal = '' WHERE id = ?",
      [kind, address, id],
    );
  }

  /** The gateway gave this for a token. */
  setGiven(id: number, given: NonNullable<RegistrationRow["given"]>): void {
    this.storage.run("UPDATE push_registration SET token_id = ?, secret = ?, handle_key = ? WHERE id = ?", [
      given.tokenId,
      given.secret,
      given.handleKey,
      id,
    ]);
  }

  /** The gateway does not know what it gave, or has another key. */
  forgetGiven(id: number): void {
    this.storage.run(
      "UPDATE push_registration SET token_id = NULL, secret = NULL, handle_key = NULL, told = 0 WHERE id = ?",
      [id],
    );
  }

  /** The gateway has this token now; the application may have given another one meanwhile. */
  setTold(id: number, { kind, address }: PushToken, lookAtMs: number): void {
    this.storage.run(
      "UPDATE push_registration SET told = (kind = ? AND address = ?), look_at = ?, refusal = '' WHERE id = ?",
      [kind, address, lookAtMs, id],
    );
  }

  setRefusal(id: number, code: string): void {
    this.storage.run("UPDATE push_registration SET refusal = ? WHERE id = ?", [code, id]);
  }

  setOver(id: number, atMs: number): void {
    this.storage.run("UPDATE push_registration SET over_at = ? WHERE id = ?", [atMs, id]);
  }

  remove(id: number): void {
    this.storage.run("DELETE FROM push_registration WHERE id = ?", [id]);
  }

  handles(): readonly HandleRow[] {
    return this.storage.all("SELECT * FROM push_handle").map((row) => ({
      place: bytesOf(row, "place"),
      terms: row["terms"] as string,
      renewAtMs: row["renew_at"] as number,
    }));
  }

  putHandle({ place, terms, renewAtMs }: HandleRow): void {
    this.storage.run(
      `INSERT INTO push_handle (place, terms, renew_at) VALUES (?, ?, ?)
         ON CONFLICT DO UPDATE SET terms = excluded.terms, renew_at = excluded.renew_at`,
      [place, terms, renewAtMs],
    );
  }

  removeHandle(place: Bytes): void {
    this.storage.run("DELETE FROM push_handle WHERE place = ?", [place]);
  }

  /** The service may have lost every handle. */
  doubtHandles(): void {
    this.storage.run("UPDATE push_handle SET renew_at = 0");
  }
}
