import type { Reader, Writer } from "@murmuration/base";

/**
 * RFC 9420 section 7.2. All values are kept, unknown and GREASE ones too: they are ignored, not refused.
 *
 *   struct {
 *     ProtocolVersion versions<V>;
 *     CipherSuite cipher_suites<V>;
 *     ExtensionType extensions<V>;
 *     ProposalType proposals<V>;
 *     CredentialType credentials<V>;
 *   } Capabilities;
 */
export interface Capabilities {
  readonly versions: readonly number[];
  readonly cipherSuites: readonly number[];
  readonly extensions: readonly number[];
  readonly proposals: readonly number[];
  readonly credentials: readonly number[];
}

/** uint16 values<V>. */
export function readUint16Vector(reader: Reader): number[] {
  const inner = reader.nested();
  const values: number[] = [];
  while (inner.offset < inner.end) values.push(inner.uint16());
  return values;
}

/** uint16 values<V>. */
export function writeUint16Vector(writer: Writer, values: readonly number[]): void {
  writer.vector(values, (w, value) => w.uint16(value));
}

export function readCapabilities(reader: Reader): Capabilities {
  return {
    versions: readUint16Vector(reader),
    cipherSuites: readUint16Vector(reader),
    extensions: readUint16Vector(reader),
    proposals: readUint16Vector(reader),
    credentials: readUint16Vector(reader),
  };
}

export function skipCapabilities(reader: Reader): void {
  for (let vector = 0; vector < 5; vector++) {
    const values = reader.nested();
    while (values.offset < values.end) values.uint16();
  }
}

export function writeCapabilities(writer: Writer, capabilities: Capabilities): void {
  writeUint16Vector(writer, capabilities.versions);
  writeUint16Vector(writer, capabilities.cipherSuites);
  writeUint16Vector(writer, capabilities.extensions);
  writeUint16Vector(writer, capabilities.proposals);
  writeUint16Vector(writer, capabilities.credentials);
}
