// How soon a page shows something, and what it transfers until it is at rest: each time in a fresh browser context without
// a cache. Prints one JSON object: {"paints": [milliseconds], "bytes": [count]}.

import { createRequire } from "node:module";
import { join } from "node:path";

const [url, chromium, modules, contexts] = process.argv.slice(2);
const puppeteer = createRequire(join(modules, "x.js"))("puppeteer-core");
const PATIENCE = 20_000;
// Nothing new is transferred for this long: at rest. The stream of events stays open, so it cannot be waited for.
const REST = 500;

const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"] });

async function visit() {
  const context = await browser.createBrowserContext();
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE);
  const client = await page.createCDPSession();
  await client.send("Network.enable");
  await client.send("Network.setCacheDisabled", { cacheDisabled: true });
  let bytes = 0, last = Date.now();
  client.on("Network.loadingFinished", (event) => { bytes += event.encodedDataLength; last = Date.now(); });
  await page.goto(url, { waitUntil: "load" });
  const found = await page.waitForFunction(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
  const paint = await found.jsonValue();
  while (Date.now() - last < REST) await new Promise((then) => setTimeout(then, 50));
  await context.close();
  return { paint, bytes };
}

// The first visit starts the browser's own processes and is not counted.
await visit();
const paints = [], bytes = [];
for (let i = 0; i < Number(contexts); i++) {
  const seen = await visit();
  paints.push(seen.paint);
  bytes.push(seen.bytes);
}
await browser.close();
console.log(JSON.stringify({ paints, bytes }));
