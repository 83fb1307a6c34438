import { readFileSync } from "node:fs";
import { UsageError } from "@murmuration/base";
import { type ConfigSources, type DeliveryServiceConfig, resolveConfig } from "../config.ts";

/**
 * The configuration out of a JSON file, the environment and a command's options, each overriding those before it.
 * Throws UsageError `config/no-file`, `config/not-json`, and what {@link resolveConfig} throws.
 */
export function readConfig(
  given: Pick<ConfigSources, "environment" | "options"> & { readonly path?: string | undefined } = {},
): DeliveryServiceConfig {
  const { path, environment = process.env, options = {} } = given;
  return resolveConfig({
    ...(path !== undefined && { file: readJson(path) }),
    environment,
    options,
    readSecret: (secret) => readFileSync(secret, "utf8"),
  });
}

function readJson(path: string): unknown {
  let text: string;
  try {
    text = readFileSync(path, "utf8");
  } catch {
    throw new UsageError(
      "config/no-file",
      "The configuration file cannot be read: check its path and its mode.",
    );
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    // The message quotes the file, which may hold a password: only the place is told.
    const at = /position (\d+)/.exec(String(error))?.[1];
    const line = text.slice(0, at === undefined ? text.length : Number(at)).split("\n").length;
    throw new UsageError("config/not-json", `The configuration file is no JSON, from line ${line} on.`);
  }
}
