/** Opens a page from disk in a real browser that reaches no network, and says what a reader would run into. */
import { existsSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { type Browser, chromium, type Page } from "playwright-core";

/** As much of a page as is asked below; the code of this project has no types of a browser otherwise. */
interface PageElement {
  readonly tagName: string;
  readonly textContent: string | null;
  readonly scrollWidth: number;
  readonly clientWidth: number;
  open: boolean;
  closest(selector: string): PageElement | null;
  querySelectorAll(selector: string): Iterable<PageElement>;
  getAttribute(name: string): string | null;
  getBoundingClientRect(): { readonly width: number; readonly height: number; readonly right: number };
}
declare const document: PageElement & { readonly documentElement: PageElement; readonly body: PageElement };
declare function getComputedStyle(element: PageElement): { readonly backgroundColor: string };

const CANDIDATES = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

/** The browser of this machine: `CHROMIUM`, or where Debian and others put it. */
export function findChromium(): string | undefined {
  const named = process.env["CHROMIUM"];
  return named !== undefined && named !== "" ? named : CANDIDATES.find((path) => existsSync(path));
}

/** What a sandbox of the kernel forbids under root, and everything by which the browser itself goes out. */
const FLAGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

export const startBrowser = (executablePath: string): Promise<Browser> =>
  chromium.launch({ executablePath, args: FLAGS, headless: true });

export interface View {
  readonly width: number;
  readonly height: number;
  readonly colorScheme: "light" | "dark";
  readonly media?: "print";
}

export interface Findings {
  /** Errors on the console and uncaught ones. */
  readonly errors: readonly string[];
  /** Addresses other than the file itself. */
  readonly requests: readonly string[];
  /** Pixels by which the page is wider than the window. */
  readonly overflow: number;
  /** Elements that reach out of the window, those within a table that scrolls excepted. */
  readonly outside: readonly string[];
  /** Charts, and those among them of which not exactly one picture is visible. */
  readonly charts: number;
  readonly invisible: readonly string[];
  /** Pixels by which the widest table is wider than its frame. */
  readonly widestTable: number;
  readonly background: string;
}

/** Opens the file with everything unfolded and looks at it; `look` may take pictures meanwhile. */
export async function inspect(
  browser: Browser,
  path: string,
  view: View,
  look: (page: Page) => Promise<unknown> = async () => undefined,
): Promise<Findings> {
  const { width, height, colorScheme } = view;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme, offline: true });
  try {
    const page = await context.newPage();
    const own = pathToFileURL(path).href;
    const errors: string[] = [];
    const requests: string[] = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) errors.push(message.text());
    });
    page.on("pageerror", (error) => errors.push(error.message));
    page.on("request", (request) => {
      if (request.url() !== own && !request.url().startsWith("data:")) requests.push(request.url());
    });
    await page.goto(own);
    if (view.media !== undefined) await page.emulateMedia({ media: view.media });
    await page.evaluate(() => {
      for (const details of document.querySelectorAll("details")) details.open = true;
    });
    const seen = await page.evaluate(() => {
      const window = document.documentElement.clientWidth;
      const name = (element: PageElement) => `${element.tagName} ${element.textContent?.slice(0, 40)}`;
      const hidden = (element: PageElement) => element.closest(".visually-hidden, caption, .scroll") !== null;
      const visible = (svg: PageElement) => {
        const { width, height } = svg.getBoundingClientRect();
        return width > 0 && height > 0;
      };
      const charts = [...document.querySelectorAll(".chart")];
      const frames = [...document.querySelectorAll(".scroll")];
      return {
        overflow: document.documentElement.scrollWidth - window,
        outside: [...document.querySelectorAll("body *")]
          .filter((element) => !hidden(element) && element.getBoundingClientRect().right > window + 1)
          .map(name),
        charts: charts.length,
        invisible: charts
          .filter((chart) => [...chart.querySelectorAll("svg")].filter(visible).length !== 1)
          .map((chart) => chart.getAttribute("aria-label") ?? ""),
        widestTable: Math.max(0, ...frames.map((frame) => frame.scrollWidth - frame.clientWidth)),
        background: getComputedStyle(document.body).backgroundColor,
      };
    });
    await look(page);
    return { errors, requests, ...seen };
  } finally {
    await context.close();
  }
}
