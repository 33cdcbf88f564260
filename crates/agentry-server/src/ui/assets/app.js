// The shell: which page an address means, the bar above it, the palette, the live stream.

import { h, put } from "./dom.js";
import { get, live, me, startLive, whenSignInIsNeeded, whoAmI } from "./api.js";
import { problem } from "./parts.js";

// Name, address, file, badge of the live picture.
const PAGES = [
  ["Fleet", "", "fleet"], ["Tasks", "tasks", "tasks"], ["Sessions", "sessions", "sessions"], ["Schedules", "schedules", "schedules"],
  ["People", "people", "people", "questions_open"], ["Dead letters", "letters", "letters", "dead_letters_open"],
  ["Workers", "workers", "workers"], ["Usage", "usage", "usage"], ["Bench", "bench", "bench"], ["Access", "access", "access"],
];
const ONE = { tasks: "task", sessions: "session", agents: "agent" };
const main = document.getElementById("page");
let leave = null, turn = 0;

/** `#/tasks/ID?agent=x` as page, id and query. */
function address() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [place, ...rest] = path.split("/");
  return { place, id: rest.length ? decodeURIComponent(rest.join("/")) : null, query: new URLSearchParams(query) };
}

async function show() {
  const { place, id, query } = address();
  const mine = ++turn;
  leave?.();
  leave = null;
  const known = PAGES.find(([, at]) => at === place) ?? (place === "agents" ? PAGES[0] : null);
  for (const link of document.querySelectorAll("#nav a")) link.toggleAttribute("aria-current", link.hash === `#/${known?.[1] ?? "?"}`);
  for (const link of document.querySelectorAll("#nav a[aria-current]")) { link.setAttribute("aria-current", "page"); link.scrollIntoView({ block: "nearest", inline: "nearest" }); }
  const page = h("div", {});
  try {
    if (!known && place !== "sign-in") throw new Error(`there is no page “${place}”`);
    const file = place === "sign-in" ? "signin" : (id && ONE[place]) || known[2];
    const module = await import(`/ui/${file}.js`);
    if (mine !== turn) return;
    put(main, page);
    leave = module.show(page, { id, query, signedIn: begin }) ?? null;
  } catch (error) {
    put(main, problem(error));
  }
  const title = main.querySelector("h1");
  document.title = `${title?.textContent ?? "Agentry"} · Agentry`;
  if (mine > 1) { window.scrollTo(0, 0); (title ?? main).focus({ preventScroll: true }); }
}

function bar() {
  put(document.getElementById("nav"), PAGES.map(([name, at, , badge]) => h("a", { href: `#/${at}` }, name, badge && h("span", { class: "badge", "data-badge": badge }))));
}

function badges() {
  for (const badge of document.querySelectorAll("[data-badge]")) {
    const n = live.last?.[badge.dataset.badge] ?? 0;
    badge.textContent = n ? (n > 99 ? "99+" : String(n)) : "";
  }
}

function mark(on, word) {
  const shown = document.getElementById("live");
  if (shown.dataset.on === on) return;
  shown.dataset.on = on;
  put(shown, h("span", { class: "shape", "aria-hidden": "true" }, on === "yes" ? "●" : "▲"), ` ${word}`);
}

/** Pages, agents, a task by its id: what the palette finds. */
async function choices(words) {
  const low = words.trim().toLowerCase();
  const found = PAGES.filter(([name]) => name.toLowerCase().includes(low)).map(([name, at]) => ["page", name, `#/${at}`]);
  if (/^[0-9a-f]{8}-[0-9a-f-]{27}$/.test(low)) found.unshift(["task", low, `#/tasks/${low}`]);
  if (low) {
    const agents = await get("/v1/agents", { q: low, limit: 8 }).catch(() => ({ items: [] }));
    found.push(...agents.items.map((agent) => ["agent", agent.name, `#/agents/${encodeURIComponent(agent.name)}`]));
    if (low.includes(":")) found.push(["session", words.trim(), `#/sessions/${encodeURIComponent(words.trim())}`]);
  }
  for (const theme of ["light", "dark", "system"]) if (`theme ${theme}`.includes(low)) found.push(["look", `Theme: ${theme}`, () => setTheme(theme)]);
  if (me.signed_in && "sign out".includes(low)) found.push(["access", "Sign out", "#/sign-in"]);
  return found.slice(0, 14);
}

function setTheme(theme) {
  if (theme === "system") { delete document.documentElement.dataset.theme; localStorage.removeItem("theme"); }
  else { document.documentElement.dataset.theme = theme; localStorage.setItem("theme", theme); }
}

function palette() {
  if (document.querySelector("dialog[open]")) return;
  const opener = document.activeElement;
  const list = h("ul", { id: "found", role: "listbox", "aria-label": "Found" });
  const input = h("input", { type: "text", role: "combobox", "aria-expanded": "true", "aria-controls": "found", "aria-label": "Go to a page, an agent, a task id, a session",
    placeholder: "Page, agent, task id, agent:session …", autocomplete: "off", spellcheck: "false" });
  const box = h("dialog", { class: "find", "aria-label": "Go anywhere" }, input, list);
  let found = [], at = 0, asked = 0;
  const end = () => { box.close(); box.remove(); opener?.focus?.(); };
  const go = (index) => { const target = found[index]?.[2]; if (!target) return; end(); if (typeof target === "function") target(); else location.hash = target; };
  const draw = () => {
    put(list, found.map(([kind, name], i) => h("li", { id: `found-${i}`, role: "option", "aria-selected": String(i === at), onclick: () => go(i) }, h("span", {}, name), h("span", { class: "faint" }, kind))));
    input.setAttribute("aria-activedescendant", `found-${at}`);
    list.children[at]?.scrollIntoView({ block: "nearest" });
  };
  const look = async () => { const mine = ++asked; const got = await choices(input.value); if (mine === asked) { found = got; at = 0; draw(); } };
  input.addEventListener("input", look);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); at = (at + step + found.length) % Math.max(1, found.length); draw(); }
    if (event.key === "Enter") { event.preventDefault(); go(at); }
  });
  box.addEventListener("cancel", (event) => { event.preventDefault(); end(); });
  box.addEventListener("click", (event) => { if (event.target === box) end(); });
  document.body.append(box);
  box.showModal();
  look();
}

document.addEventListener("keydown", (event) => {
  if ((event.metaKey || event.ctrlKey) && event.key.toLowerCase() === "k") { event.preventDefault(); palette(); }
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName);
  if (event.key === "/" && !typing) { const filter = main.querySelector("[data-filter]"); if (filter) { event.preventDefault(); filter.focus(); } }
});

async function begin() {
  try {
    await whoAmI();
  } catch (error) {
    if (error.status !== 401) { put(main, problem(error)); return; }
  }
  if (me.required && !me.signed_in) { mark("no", "signed out"); if (address().place !== "sign-in") location.hash = "#/sign-in"; else await show(); return; }
  startLive(mark);
  if (address().place === "sign-in" && !me.signed_in) location.hash = "#/";
  await show();
}

const theme = localStorage.getItem("theme");
if (theme === "light" || theme === "dark") setTheme(theme);
document.getElementById("palette").addEventListener("click", palette);
whenSignInIsNeeded(() => { me.signed_in = false; me.required = true; if (address().place !== "sign-in") location.hash = "#/sign-in"; });
live.on.addEventListener("overview", badges);
window.addEventListener("hashchange", show);
bar();
begin();
