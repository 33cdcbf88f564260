// Elements and words. Everything a user wrote becomes text here and nowhere else: there is no innerHTML in this folder.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "value") node.value = value;
    else if (name === "vars") for (const [key, v] of Object.entries(value)) node.style.setProperty(key, v);
    else node.setAttribute(name, value === true ? "" : value);
  }
  for (const child of children.flat(3)) if (child !== null && child !== undefined && child !== false) node.append(child);
  return node;
}

/** An element: `h("a", {href}, "text", node, …)`. `vars` sets style properties through the object model, which CSP allows. */
export const h = (tag, props, ...children) => fill(document.createElement(tag), props, children);
/** The same for SVG. */
export const s = (tag, props, ...children) => fill(document.createElementNS(SVG, tag), props, children);

/** Replaces what an element holds, keeping what is equal so that focus and selection stay. */
export function put(node, ...children) {
  node.replaceChildren(...children.flat(3).filter((c) => c !== null && c !== undefined && c !== false));
  return node;
}

const INT = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

/** A count: `12,345`, `1.2 M`. */
export function count(n) {
  if (n === null || n === undefined) return "–";
  return n >= 1e6 ? `${(n / 1e6).toFixed(n >= 1e8 ? 0 : 1)} M` : INT.format(n);
}

/** A rate: one decimal while that says something. */
export const rate = (n) => (n > 0 && n < 10 ? n.toFixed(1) : count(Math.round(n ?? 0)));

/** Dollars with as many digits as say something. */
export function usd(text) {
  const amount = Number(text ?? 0);
  if (!amount) return "$0";
  if (amount >= 100) return `$${INT.format(amount)}`;
  if (amount >= 1) return `$${amount.toFixed(2)}`;
  return `$${amount.toFixed(amount >= 0.0001 ? 4 : 6)}`;
}

/** Milliseconds in the unit a person would use. */
export function span(ms) {
  if (ms === null || ms === undefined || Number.isNaN(ms)) return "–";
  if (ms === 0) return "0";
  if (ms < 1) return `${ms.toFixed(2)} ms`;
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(ms < 10_000 && ms % 1000 ? 1 : 0)} s`;
  const two = (big, unit, small, rest) => { const left = Math.round((ms % big) / small); return `${Math.floor(ms / big)} ${unit}${left ? ` ${left} ${rest}` : ""}`; };
  if (ms < 3_600_000) return two(60_000, "min", 1000, "s");
  if (ms < 86_400_000) return two(3_600_000, "h", 60_000, "min");
  return two(86_400_000, "d", 3_600_000, "h");
}

const pad = (n) => String(n).padStart(2, "0");

/** A moment: the hour today, else the day too; the title has all of it. */
export function moment(text) {
  if (!text) return h("span", { class: "faint" }, "–");
  const at = new Date(text);
  const clock = `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
  const today = at.toDateString() === new Date().toDateString();
  const day = `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
  return h("time", { datetime: text, title: text, class: "nowrap" }, today ? clock : `${day} ${clock.slice(0, 5)}`);
}

/** How long ago, or until when. */
export function distance(text, now = Date.now()) {
  if (!text) return "–";
  const ms = new Date(text).getTime() - now;
  const seconds = Math.max(1, Math.round(Math.abs(ms) / 1000));
  const words = seconds < 60 ? `${seconds} s` : seconds < 3600 ? `${Math.floor(seconds / 60)} min` : span(seconds * 1000);
  return ms > 0 ? `in ${words}` : `${words} ago`;
}

const STATES = {
  healthy: ["good", "●"], completed: ["good", "●"], alive: ["good", "●"], ok: ["good", "●"], fired: ["good", "●"], active: ["good", "●"],
  starting: ["busy", "◐"], restarting: ["warn", "◐"], running: ["busy", "◐"], queued: ["idle", "○"], waiting: ["warn", "◇"], open: ["warn", "◇"],
  failed: ["bad", "▲"], invalid: ["bad", "▲"], timed_out: ["bad", "▲"], gone: ["bad", "▲"], expired: ["bad", "▲"], revoked: ["idle", "■"],
  cancelled: ["idle", "■"], disabled: ["idle", "◌"], paused: ["idle", "‖"], off: ["idle", "◌"], idle: ["idle", "◌"],
  replayed: ["good", "↻"], dropped: ["idle", "■"], skipped: ["warn", "◇"], missed: ["bad", "▲"], refused: ["bad", "▲"],
};

/** A state: its shape and its word. */
export function state(word) {
  const [tone, shape] = STATES[word] ?? ["idle", "○"];
  return h("span", { class: "state", "data-tone": tone }, h("span", { class: "shape", "aria-hidden": "true" }, shape), word.replace("_", " "));
}

export const tone = (word) => (STATES[word] ?? ["idle"])[0];

/** Any value as text: strings as they are, the rest as JSON. */
export const text = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));
