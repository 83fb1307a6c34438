import { UsageError } from "@murmuration/base";
import { describe, expect, test } from "vitest";
import { readConfig } from "../../src/config.ts";

const P = "MURMURATION_PUSH_";
const least = {
  [`${P}WAKE_SECRET`]: "0123456789abcdef0123456789abcdef",
  [`${P}FCM_CREDENTIALS_FILE`]: "service-account.json",
};

describe("the configuration of a gateway", () => {
  test("needs a secret and one push service, and has defaults for the rest", () => {
    expect(readConfig(least)).toMatchObject({
      dataDirectory: "push-gateway-data",
      port: 8090,
      webPush: undefined,
      apns: undefined,
      fcm: { endpoint: "https://fcm.googleapis.com", tokenEndpoint: "https://oauth2.googleapis.com/token" },
    });
  });

  test.each([
    ["WAKE_SECRET", { WAKE_SECRET: "" }, "config/missing"],
    ["WAKE_SECRET", { WAKE_SECRET: "too-short" }, "config/invalid"],
    ["WAKE_SECRET", { WAKE_SECRET: "with a space 0123456789abcdef0123456789" }, "config/invalid"],
    ["PORT", { PORT: "65536" }, "config/invalid"],
    ["LOG_LEVEL", { LOG_LEVEL: "loud" }, "config/invalid"],
    ["APNS_TOPIC", { APNS_KEY_FILE: "key.p8", APNS_KEY_ID: "K", APNS_TEAM_ID: "T" }, "config/missing"],
    ["WEB_PUSH_SUBJECT", { WEB_PUSH_PRIVATE_KEY: "k" }, "config/missing"],
    ["FCM_ENDPOINT", { FCM_ENDPOINT: "fcm.example" }, "config/invalid"],
  ])("an error names %s: %j", (key, changes, code) => {
    const changed = Object.entries(changes).map(([name, value]) => [P + name, value]);
    const read = () => readConfig({ ...least, ...Object.fromEntries(changed) });
    expect(read).toThrow(UsageError);
    expect(read).toThrow(`${code}: ${P}${key}`);
  });

  test("without any push service is an error that says what to set", () => {
    const read = () => readConfig({ ...least, [`${P}FCM_CREDENTIALS_FILE`]: undefined });
    expect(read).toThrow(`${P}WEB_PUSH_PRIVATE_KEY, ${P}APNS_KEY_FILE, ${P}FCM_CREDENTIALS_FILE`);
  });
});
