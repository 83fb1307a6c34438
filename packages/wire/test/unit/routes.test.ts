import { describe, expect, test } from "vitest";
import {
  limits,
  matchRoute,
  type PathParameter,
  type RouteName,
  routePath,
  routes,
} from "../../src/index.ts";

/** 16 bytes in text form, and the 32 of a tree hash. */
const id = "AQEBAQEBAQEBAQEBAQEBAQ";
const hash = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
const parameters = { accountId: id, groupId: id, blobId: id, treeHash: hash, baseHash: hash } as const;

describe("HTTP routes", () => {
  test.each(Object.keys(routes) as RouteName[])("%s is found by its own method and path", (name) => {
    const path = routePath(name, parameters);
    const match = matchRoute(routes[name].method, path);
    expect(match).toMatchObject({ kind: "found", name });
    if (match.kind === "found") {
      for (const [key, value] of Object.entries(match.parameters)) {
        expect(value).toBe(parameters[key as PathParameter]);
      }
    }
  });

  test("no two routes share method and path", () => {
    const all = Object.values(routes).map(({ method, path }) => `${method} ${path.replace(/:\w+/g, ":id")}`);
    expect(new Set(all).size).toBe(all.length);
  });

  test("another method on a known path, and a path that nobody knows", () => {
    expect(matchRoute("PATCH", "/v1/keys").kind).toBe("method-not-allowed");
    expect(matchRoute("GET", "/v1/keys/").kind).toBe("unknown-route");
    expect(matchRoute("GET", "/v1/mls/anything").kind).toBe("unknown-route");
  });

  test.each(["short", `${id}A`, "../../../../etc/passwd", `${id}/`, "%41QEBAQEBAQEBAQEBAQEBAQ"])(
    "%j in the place of an id finds nothing",
    (text) => expect(matchRoute("GET", `/v1/groups/${text}`).kind).toBe("unknown-route"),
  );

  test.each([id, hash.slice(1), `${hash}A`, `${id}.${id}`])(
    "%j in the place of a tree hash finds nothing",
    (text) => expect(matchRoute("GET", `/v1/trees/${text}`).kind).toBe("unknown-route"),
  );

  test("a path without its parameter is not made", () => {
    expect(() => routePath("readGroup")).toThrow("groupId");
  });

  test("only routes with a body allow one", () => {
    for (const { request, maxBodyBytes } of Object.values(routes)) {
      expect(maxBodyBytes > 0).toBe(request !== undefined);
      expect(maxBodyBytes).toBeLessThanOrEqual(limits.blobBytes);
    }
  });
});
