/**
 * Subscribers of other servers, on sockets like ours. Their npm clients would be the bottleneck: a thousand of them
 * take more CPU than the server. A message begins with its number, 4 bytes.
 */
import { LoadSocket } from "./load-socket.ts";

export const TOPIC = "murmuration.fanout";
const NUMBER_BYTES = 4;

/** A message of this many bytes with its number in front. */
export function numberedMessage(number: number, bytes: number): Buffer {
  const message = Buffer.alloc(Math.max(NUMBER_BYTES, bytes), number & 0xff);
  message.writeUInt32BE(number);
  return message;
}

export interface Subscriber {
  cut(): void;
}

type Took = (number: number) => void;

/** Subscribes at mosquitto; resolves when the server has confirmed. MQTT 3.1.1, QoS 0. */
export function subscribeMqtt(port: number, name: string, took: Took): Promise<Subscriber> {
  return new Promise((resolve, reject) => {
    const take = (bytes: Buffer): number => {
      const size = mqttSize(bytes);
      if (size === undefined || bytes.length < size.whole) return 0;
      const kind = bytes[0]! >> 4;
      if (kind === CONNACK) socket.write(mqttPacket(SUBSCRIBE, [0, 1, ...mqttText(TOPIC), 0]));
      else if (kind === SUBACK) resolve(socket);
      else if (kind === PUBLISH) {
        const topicBytes = bytes.readUInt16BE(size.header);
        took(bytes.readUInt32BE(size.header + 2 + topicBytes));
      }
      return size.whole;
    };
    const socket = new LoadSocket(port, take, () => reject(new Error("mosquitto ended a connection")));
    // Protocol level 4, clean session, no keep-alive.
    socket.write(mqttPacket(CONNECT, [...mqttText("MQTT"), 4, 2, 0, 0, ...mqttText(name)]));
  });
}

/** First bytes of MQTT 3.1.1 packets (section 2.2), and types of those that come. */
const CONNECT = 0x10;
const SUBSCRIBE = 0x82;
const CONNACK = 2;
const PUBLISH = 3;
const SUBACK = 9;

const mqttText = (text: string): number[] => [text.length >> 8, text.length & 0xff, ...Buffer.from(text)];

function mqttPacket(first: number, content: readonly number[]): Buffer {
  if (content.length > 127) throw new Error("too long for one length byte");
  return Buffer.from([first, content.length, ...content]);
}

function mqttSize(bytes: Buffer): { readonly header: number; readonly whole: number } | undefined {
  let length = 0;
  for (let i = 1; i < Math.min(5, bytes.length); i++) {
    length += (bytes[i]! & 0x7f) * 128 ** (i - 1);
    if (bytes[i]! < 0x80) return { header: i + 1, whole: i + 1 + length };
  }
  return undefined;
}

/** Subscribes at nats-server; resolves when the server has confirmed. */
export function subscribeNats(port: number, took: Took): Promise<Subscriber> {
  return new Promise((resolve, reject) => {
    const take = (bytes: Buffer): number => {
      const end = bytes.indexOf("\r\n");
      if (end < 0) return 0;
      const line = bytes.subarray(0, end).toString("latin1");
      if (line.startsWith("MSG ")) {
        const length = Number(line.slice(line.lastIndexOf(" ") + 1));
        const whole = end + 2 + length + 2;
        if (bytes.length < whole) return 0;
        took(bytes.readUInt32BE(end + 2));
        return whole;
      }
      if (line.startsWith("INFO ")) {
        socket.write(`CONNECT {"verbose":false,"pedantic":false}\r\nSUB ${TOPIC} 1\r\nPING\r\n`);
      } else if (line === "PING") socket.write("PONG\r\n");
      else if (line === "PONG") resolve(socket);
      return end + 2;
    };
    const socket = new LoadSocket(port, take, () => reject(new Error("nats-server ended a connection")));
  });
}
