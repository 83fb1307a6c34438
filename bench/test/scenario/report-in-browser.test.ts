import { mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import type { Browser, Page } from "playwright-core";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { renderPage } from "../../src/report/page.ts";
import { findChromium, inspect, startBrowser, type View } from "../browser/open-report.ts";
import { handMadeReport } from "../unit/report/constructed.ts";

const executable = findChromium();
if (executable === undefined) {
  console.log(
    "THE REPORT WAS NOT OPENED IN A BROWSER: this machine has no chromium. To get it, run `apt-get install chromium`, or name one by CHROMIUM=PATH.",
  );
}

/** Where the pictures stay for whoever wants to look at them. */
const folder = resolve(import.meta.dirname, "../../out/browser");
const path = join(folder, "report.html");
const views: Readonly<Record<string, View>> = {
  phone: { width: 360, height: 740, colorScheme: "light" },
  "phone-dark": { width: 360, height: 740, colorScheme: "dark" },
  desktop: { width: 1280, height: 900, colorScheme: "light" },
  "desktop-dark": { width: 1280, height: 900, colorScheme: "dark" },
};
/** A4 within the page's own margins. */
const paper: View = { width: 703, height: 1000, colorScheme: "dark", media: "print" };

describe.skipIf(executable === undefined)("the page, opened from disk without a network", () => {
  let browser: Browser;
  beforeAll(async () => {
    mkdirSync(folder, { recursive: true });
    writeFileSync(path, renderPage(handMadeReport()));
    browser = await startBrowser(executable!);
  });
  afterAll(() => browser?.close());

  test.each(Object.entries(views))(
    "fits a %s, shows every chart and asks for nothing",
    async (name, view) => {
      const findings = await inspect(browser, path, view, (page: Page) =>
        page.screenshot({ path: join(folder, `${name}.png`), fullPage: true }),
      );
      expect(findings).toMatchObject({ errors: [], requests: [], overflow: 0, outside: [], invisible: [] });
      expect(findings.charts).toBeGreaterThan(30);
    },
  );

  test("prints with every table whole, on white paper", async () => {
    const pdf = join(folder, "report.pdf");
    const findings = await inspect(browser, path, paper, async (page: Page) => {
      await page.pdf({ path: pdf, format: "A4", preferCSSPageSize: true });
    });
    expect(findings).toMatchObject({ errors: [], requests: [], overflow: 0, invisible: [], widestTable: 0 });
    expect(findings.background).toBe("rgb(255, 255, 255)");
    expect(readFileSync(pdf).subarray(0, 5).toString()).toBe("%PDF-");
    expect(statSync(pdf).size).toBeGreaterThan(50_000);
  });
});
