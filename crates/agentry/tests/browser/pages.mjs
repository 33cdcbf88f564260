// Every page and every action of the dashboard, in headless Chromium. Ends with status 1 at the first thing that is not
// as it must be; waits are for what the page shows, bounded by one timeout.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [url, chromium, modules, shots] = process.argv.slice(2);
const require = createRequire(join(modules, "x.js"));
const puppeteer = require("puppeteer-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
const PATIENCE = 20_000;

let key = null;
const api = async (method, path, body) => {
  const headers = { "content-type": "application/json", ...(key ? { authorization: `Bearer ${key}` } : {}) };
  const answer = await fetch(url + path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  assert.ok(answer.ok, `${method} ${path}: ${answer.status} ${await answer.clone().text()}`);
  return answer.status === 204 ? null : answer.json();
};
const until = async (what, ask) => {
  const end = Date.now() + PATIENCE;
  for (;;) {
    const got = await ask();
    if (got) return got;
    assert.ok(Date.now() < end, `waited in vain for ${what}`);
    await new Promise((then) => setTimeout(then, 50));
  }
};
const ended = (id) => until(`the end of ${id}`, async () => { const task = await api("GET", `/v1/tasks/${id}`); return /completed|failed|timed_out|cancelled/.test(task.status) && task; });
const waiting = (id) => until(`${id} to wait`, async () => { const task = await api("GET", `/v1/tasks/${id}`); return task.status === "waiting" && task; });

/** Work of every kind, so that every page has something to show. */
async function seed() {
  await until("a healthy fleet", async () => (await api("GET", "/v1/agents")).items.filter((agent) => agent.status === "healthy").length >= 9);
  const ask = async (body) => (await api("POST", "/v1/tasks", body)).id;
  const many = [];
  for (let i = 0; i < 150; i++) many.push({ agent: ["triage", "summarizer", "writer"][i % 3], input: `refund number ${i} not received` });
  await api("POST", "/v1/tasks/batch", { tasks: many });
  const xss = "<img src=x onerror=window.pwned=1><script>window.pwned=1</script>";
  const made = { evil: await ask({ agent: "evil", session: "<b>x</b>", input: xss }), failed: await ask({ agent: "triage", input: "refund gone wrong [[fail:400]]" }), dropped: await ask({ agent: "writer", input: "a haiku [[fail:400]]" }) };
  for (const input of ["My order is A-1042.", "It has not arrived yet.", "Which order was that?"]) await ended(await ask({ agent: "support", session: "customer-17", input }));
  made.plan = await ask({ agent: "research-team", input: "Compare delivery times of our three carriers." });
  made.asks = await ask({ agent: "research-team", input: "Where do we ship? [[ask:Which region?|EU|US]]" });
  made.cancels = await ask({ agent: "research-team", input: "Where do we sell? [[ask:Which country?]]" });
  for (const id of [made.evil, made.failed, made.dropped, made.plan]) await ended(id);
  await waiting(made.asks);
  await waiting(made.cancels);
  await api("POST", "/v1/schedules", { name: "every-hour", agent: "health-check", interval_seconds: 3600, input: "check all services" });
  return made;
}

const made = await seed();
const browser = await puppeteer.launch({ executablePath: chromium, headless: true, args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--force-color-profile=srgb"] });
const page = await browser.newPage();
page.setDefaultTimeout(PATIENCE);
await page.setViewport({ width: 1280, height: 860 });
const complaints = [];
page.on("console", (message) => { if (["error", "warn"].includes(message.type()) && !/status of 4\d\d/.test(message.text())) complaints.push(message.text()); });
page.on("pageerror", (error) => complaints.push(String(error)));

const shows = (words, selector = "main") => page.waitForFunction((words, selector) => document.querySelector(selector)?.innerText.includes(words), {}, words, selector)
  .catch(async () => assert.fail(`“${words}” is not shown at ${page.url()}; the page says:\n${await page.evaluate(() => document.body.innerText.slice(0, 2000))}`));
const press = async (label, within = "main") => {
  const found = await page.waitForFunction((label, within) => [...document.querySelectorAll(`${within} button, ${within} a`)].find((node) => node.innerText.trim().replace(/^[▸▾] /, "") === label && !node.disabled), {}, label, within)
    .catch(async () => assert.fail(`no button “${label}” in ${within} at ${page.url()}:\n${await page.evaluate(() => document.body.innerText.slice(0, 2000))}`));
  await found.evaluate((node) => node.click());
};
const type = async (selector, words) => { await page.waitForSelector(selector); await page.type(selector, words); };
const gone = (selector) => page.waitForFunction((selector) => !document.querySelector(selector), {}, selector);
const open = async (hash, title) => {
  await page.goto(`${url}/#/${hash}`);
  await page.waitForFunction((title) => document.querySelector("h1")?.textContent.startsWith(title) && !document.querySelector("main")?.innerText.includes("Loading"), {}, title);
};

async function accessible(name) {
  await page.evaluate(axe);
  const found = await page.evaluate(async () => (await window.axe.run(document, { resultTypes: ["violations"] })).violations.map((one) => `${one.id} (${one.impact}): ${one.help}\n    ${one.nodes.slice(0, 4).map((node) => node.html.slice(0, 160)).join("\n    ")}`));
  assert.deepEqual(found, [], `${name}: axe finds\n${found.join("\n")}`);
}

/** Looks at a page in light, in dark and at the width of a phone: axe, no sideways scrolling, a picture. */
async function look(name) {
  await page.evaluate(() => document.getElementById("notes").replaceChildren());
  for (const theme of ["light", "dark"]) {
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: theme }, { name: "prefers-reduced-motion", value: "reduce" }]);
    await accessible(`${name}, ${theme}`);
    await page.screenshot({ path: join(shots, `${name}-${theme}.png`) });
  }
  await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "light" }, { name: "prefers-reduced-motion", value: "reduce" }]);
  await page.setViewport({ width: 360, height: 740 });
  await page.evaluate(() => new Promise((then) => requestAnimationFrame(() => requestAnimationFrame(then))));
  const wide = await page.evaluate(() => document.scrollingElement.scrollWidth);
  await page.screenshot({ path: join(shots, `${name}-phone.png`) });
  assert.ok(wide <= 360, `${name}: ${wide} pixels wide on a phone`);
  await page.setViewport({ width: 1280, height: 860 });
}

const steps = {
  async "the fleet, and its weight"() {
    const client = await page.createCDPSession();
    let bytes = 0;
    await client.send("Network.enable");
    client.on("Network.loadingFinished", (event) => { bytes += event.encodedDataLength; });
    await open("", "Fleet");
    await shows("research-team");
    await shows("live", ".top");
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    console.log(`  first contentful paint ${Math.round(paint)} ms, ${bytes} bytes transferred`);
    assert.ok(bytes > 10_000 && bytes <= 150_000, `${bytes} bytes`);
    await client.detach();
    await shows("unknown key `modle`");
    await shows("did you mean `model`?");
    await look("fleet");
  },
  async "a failed task's cause in three clicks"() {
    await open("", "Fleet");
    await page.waitForSelector('a[href="#/tasks?agent=triage&status=failed"]');
    await page.click('a[href="#/tasks?agent=triage&status=failed"]');
    await page.waitForSelector(".vrow a.what");
    await page.click(".vrow a.what");
    await shows("Task of triage");
    await shows("failed:");
    await look("task-failed");
  },
  async "tasks: filters, pages, rows that are kept"() {
    await open("tasks", "Tasks");
    await shows("refund number");
    assert.ok((await page.$$(".vrow")).length < 110, "only rows that can be seen are kept");
    await look("tasks");
    await until("the oldest rows", () => page.evaluate(() => { window.scrollTo(0, document.body.scrollHeight); return document.querySelector("main").innerText.includes("refund number 0 not"); }));
    await page.select('select[aria-label="status"]', "failed");
    await page.waitForFunction(() => document.querySelectorAll(".vrow").length === 2);
    assert.ok(page.url().includes("status=failed"));
    await open("tasks?agent=nobody", "Tasks");
    await shows("No task is like that.");
    await open("tasks?session=without-colon", "Tasks");
    await shows("`session` is written `agent:key`");
  },
  async "a task's timeline, run again, copy"() {
    const { items } = await api("GET", "/v1/tasks?agent=triage&status=completed&limit=1");
    await open(`tasks/${items[0].id}`, "Task of triage");
    await shows("queued");
    await page.click(".fall-row:nth-of-type(2) button");
    await shows("tokens in");
    await look("task");
    await press("Run again");
    await press("Run again", "dialog");
    await page.waitForFunction((old) => !location.hash.includes(old) && location.hash.startsWith("#/tasks/"), {}, items[0].id);
    await shows("completed");
    await press("Cancel it", ".notes");
    await shows("there is nothing to cancel", ".notes");
  },
  async "what users wrote is text"() {
    await open(`tasks/${made.evil}`, "Task of evil");
    await shows("<script>window.pwned=1</script>");
    await open("sessions", "Sessions");
    await shows("<b>x</b>");
    await open(`sessions/${encodeURIComponent("evil:<b>x</b>")}`, "evil · <b>x</b>");
    await shows("<img src=x onerror=window.pwned=1>");
    await open("agents/evil", "evil");
    await shows("<img src=x onerror=window.pwned=1>");
    assert.equal(await page.evaluate(() => window.pwned), undefined);
  },
  async "an agent, and asking it"() {
    await open("agents/writer", "writer");
    await type("main textarea", "a haiku about queues");
    await look("agent");
    await press("Send");
    await shows("Task of writer");
  },
  async "a plan as a graph"() {
    await open(`tasks/${made.plan}`, "Task of research-team");
    await page.waitForSelector("svg.graph .node");
    await look("plan");
  },
  async "sessions as conversations"() {
    await open("sessions", "Sessions");
    await shows("customer-17");
    await look("sessions");
    await press("customer-17");
    await shows("It has not arrived yet.");
    await look("session");
    await type("main textarea", "Thank you, that is all.");
    await press("Send");
    await shows("Thank you, that is all.", ".talk");
    await open(`sessions/${encodeURIComponent("evil:<b>x</b>")}`, "evil · <b>x</b>");
    await press("Forget");
    await press("Forget for good", "dialog");
    await page.waitForFunction(() => location.hash === "#/sessions");
  },
  async "a task that waits is cancelled"() {
    await open(`tasks/${made.cancels}`, "Task of research-team");
    await shows("Which country?");
    await press("Cancel");
    await press("Back", "dialog");
    await gone("dialog");
    await press("Cancel");
    await press("Cancel task", "dialog");
    await shows("cancelled");
  },
  async "people: a question is answered in place"() {
    await open("people", "People");
    await shows("Which region?");
    await look("people");
    // Each step of the plan may ask once.
    await until("the end of what asked", async () => {
      await page.evaluate(() => [...document.querySelectorAll("main [data-id] button")].find((node) => node.innerText === "EU")?.click());
      return (await api("GET", `/v1/tasks/${made.asks}`)).status === "completed";
    });
    await shows("Nobody waits for an answer");
    await page.click("main summary");
    await shows("“EU” by dashboard");
  },
  async "schedules: trigger, pause and back, resume"() {
    await open("schedules", "Schedules");
    await shows("every-hour");
    await look("schedules");
    const inRow = async (label) => {
      const button = await page.waitForFunction((label) => [...document.querySelectorAll("tbody tr")].find((row) => row.innerText.includes("every-hour"))?.querySelectorAll("td:last-child button")
        && [...[...document.querySelectorAll("tbody tr")].find((row) => row.innerText.includes("every-hour")).querySelectorAll("td:last-child button")].find((node) => node.innerText === label), {}, label);
      await button.evaluate((node) => node.click());
    };
    await inRow("Trigger");
    await press("Trigger", "dialog");
    await shows("Fired", ".notes");
    await inRow("Pause");
    await press("Pause", "dialog");
    await shows("paused");
    await press("Undo", ".notes");
    await page.waitForFunction(() => [...document.querySelectorAll("tbody tr")].find((row) => row.innerText.includes("every-hour"))?.innerText.includes("active"));
    await press("every-hour");
    await shows("No slot has come yet.");
  },
  async "dead letters: look, edit, replay, drop"() {
    await open("letters", "Dead letters");
    await page.waitForSelector("tbody tr");
    await page.click("tbody td button.link");
    await shows("What was given up");
    await look("letters");
    await press("Edit", "tbody tr:first-child");
    await page.waitForSelector("dialog textarea");
    await page.$eval("dialog textarea", (box) => { box.value = "{not json"; });
    await press("Keep it", "dialog");
    await shows("this is not JSON", "dialog");
    await page.$eval("dialog textarea", (box) => { box.value = "a haiku about rain"; });
    await press("Keep it", "dialog");
    await gone("dialog");
    await shows("a haiku about rain");
    await press("Replay", "tbody tr:first-child");
    await press("Replay", "dialog");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
    await press("Drop", "tbody tr:first-child");
    await press("Drop for good", "dialog");
    await shows("Nothing was given up");
  },
  async "workers, usage, bench"() {
    await open("workers", "Workers");
    await shows("alive");
    await look("workers");
    await open("usage", "Usage");
    await shows("By model");
    await page.waitForSelector("svg.plot");
    await look("usage");
    await open("bench", "Bench");
    await shows("quick-1");
    await look("bench");
    const report = await fetch(`${url}/bench/quick-1`);
    assert.match(report.headers.get("content-security-policy"), /^sandbox/);
  },
  async "the palette, by keyboard alone"() {
    await open("", "Fleet");
    await page.keyboard.down("Control");
    await page.keyboard.press("k");
    await page.keyboard.up("Control");
    await page.waitForSelector("dialog.find input");
    await accessible("palette");
    await page.keyboard.type("research");
    await shows("research-team", "dialog");
    await page.screenshot({ path: join(shots, "palette-light.png") });
    await page.waitForFunction(() => document.querySelector("dialog.find li")?.innerText.includes("research-team"));
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => location.hash === "#/agents/research-team");
    await page.goto(`${url}/#/nowhere`);
    await shows("there is no page “nowhere”");
  },
  async "access: a key, a session, an end"() {
    await open("access", "Access");
    await shows("No key is needed");
    await press("Make a key");
    await page.waitForSelector("dialog input");
    await type("dialog input", "ops");
    await press("Make it", "dialog");
    await shows("the first key must have the scope admin", "dialog");
    await page.select("dialog select", "admin");
    await press("Make it", "dialog");
    await shows("agk_", "dialog");
    key = (await page.$eval("dialog button.mono", (node) => node.innerText)).replace(/ copy$/, "").trim();
    await press("I have kept it", "dialog");
    await until("the sign-in page", () => page.evaluate(() => location.hash === "#/sign-in"));
    await look("sign-in");
    await type("main input", "agk_not-a-key");
    await press("Sign in");
    await shows("unknown, revoked or has expired");
    await page.$eval("main input", (box, key) => { box.value = key; }, key);
    await press("Sign in");
    await shows("research-team");
    const cookies = await page.cookies();
    const cookie = cookies.find((one) => one.name === "agentry_session");
    assert.ok(cookie?.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookies));
    const refused = await page.evaluate(async () => (await fetch("/v1/schedules/every-hour/trigger", { method: "POST" })).status);
    assert.equal(refused, 403, "a write without the token of the session");
    await open("access", "Access");
    await shows("POST /v1/keys");
    await look("access");
    await press("Make a key");
    await page.waitForSelector("dialog input");
    await type("dialog input", "reader");
    await press("Make it", "dialog");
    await shows("agk_", "dialog");
    await press("I have kept it", "dialog");
    await shows("reader");
    await press("Revoke", "tbody tr:nth-child(2)");
    await press("Revoke for good", "dialog");
    await shows("revoked");
    await press("Revoke", "tbody tr:nth-child(1)");
    await press("Revoke for good", "dialog");
    await shows("No key is needed");
  },
};

for (const [name, run] of Object.entries(steps)) {
  const began = Date.now();
  try {
    await run();
    assert.deepEqual(complaints, [], "the browser complains");
    console.log(`ok  ${name} (${Date.now() - began} ms)`);
  } catch (error) {
    console.log(`BAD ${name}`);
    await page.screenshot({ path: join(shots, "failure.png") }).catch(() => {});
    console.error(error.message);
    await browser.close();
    process.exit(1);
  }
}
await browser.close();
