// Tasks: filters, cursor pages, and only the rows that can be seen, so that a million of them scroll like fifty.

import { distance, h, put, span, state, text, usd } from "./dom.js";
import { get } from "./api.js";
import { empty, follow, heading, problem } from "./parts.js";

const PAGE = 100;
/** Rows kept in memory at most; who scrolls further narrows the filter. */
const MOST = 20_000;
const STATUSES = ["", "queued", "running", "waiting", "completed", "failed", "timed_out", "cancelled"];
const MODES = ["", "autonomous", "continuous", "collaborative", "scheduled"];
const KEYS = ["agent", "status", "mode", "session"];

/** The last row of a cell that says what was asked, or why it failed. */
function row(task, top) {
  const asked = text(task.input ?? "");
  return h("div", { class: "vrow", role: "row", vars: { top: `${top}px` } },
    h("span", { class: "status", role: "cell" }, state(task.status)), h("span", { class: "agent", role: "cell" }, task.agent),
    h("span", { class: "what-cell", role: "cell" }, h("a", { class: "what", href: `#/tasks/${task.id}` }, asked || "–"), task.error && h("span", { class: "why" }, ` ▲ ${task.error.message}`)),
    h("span", { class: "took right", role: "cell" }, task.duration_ms === null ? "–" : span(task.duration_ms)),
    h("span", { class: "tokens right", role: "cell" }, String(task.spent.input_tokens + task.spent.output_tokens)),
    h("span", { class: "cost right", role: "cell" }, usd(task.spent.cost_usd)),
    h("span", { class: "age right", role: "cell", title: task.created_at }, distance(task.created_at)));
}

export function show(page, { query }) {
  const filter = Object.fromEntries(KEYS.map((key) => [key, query.get(key) ?? ""]));
  let rows = [], cursor = null, more = true, loading = false, known = new Map();
  const space = h("div", { class: "vlist", role: "rowgroup" });
  const said = h("div", {});
  const total = h("span", { class: "faint", role: "status" });
  const tall = () => (window.matchMedia("(max-width: 760px)").matches ? 64 : 36);

  const draw = () => {
    const height = tall();
    space.style.height = `${rows.length * height}px`;
    const above = Math.max(0, -space.getBoundingClientRect().top);
    const first = Math.max(0, Math.floor(above / height) - 10), end = Math.min(rows.length, first + Math.ceil(window.innerHeight / height) + 25);
    // Keep what is there: a row that has focus must not be made anew under the reader.
    const wanted = new Map(rows.slice(first, end).map((task, i) => [task.id, [task, (first + i) * height]]));
    for (const [id, [task, node]] of known) if (wanted.get(id)?.[0] !== task && !(wanted.has(id) && node.contains(document.activeElement))) { node.remove(); known.delete(id); }
    let before = null;
    for (const [id, [task, top]] of wanted) {
      const old = known.get(id);
      const node = old?.[1] ?? row(task, top);
      node.style.top = `${top}px`;
      if (old) node.querySelector(".age").textContent = distance(task.created_at);
      if (!old) { known.set(id, [task, node]); if (before) before.after(node); else space.prepend(node); }
      before = node;
    }
    if (more && !loading && end > rows.length - 40) older();
  };

  const older = async () => {
    if (loading || !more || rows.length >= MOST) return;
    loading = true;
    try {
      const got = await get("/v1/tasks", { ...filter, cursor, limit: PAGE, brief: true });
      const have = new Set(rows.map((task) => task.id));
      rows.push(...got.items.filter((task) => !have.has(task.id)));
      cursor = got.next_cursor ?? null;
      more = Boolean(cursor);
      put(said, !rows.length && empty(KEYS.some((key) => filter[key]) ? "No task is like that." : "Tasks would be here, newest first.", 'agentry run support "Where is my order?"'));
    } catch (error) { more = false; put(said, problem(error)); }
    loading = false;
    words();
    draw();
  };

  const words = () => put(total, `${rows.length}${more ? "+" : ""} ${rows.length === 1 ? "task" : "tasks"}${rows.length >= MOST ? " shown; narrow the filter for older ones" : ""}`);

  /** The newest page again: new rows above, changed rows in place. */
  const fresh = async () => {
    if (!rows.length) { more = true; cursor = null; return older(); }
    const got = await get("/v1/tasks", { ...filter, limit: PAGE, brief: true });
    const now = new Map(got.items.map((task) => [task.id, task]));
    const oldest = got.items.at(-1)?.id ?? "";
    const kept = rows.filter((task) => !now.has(task.id) && (task.id < oldest || !got.next_cursor) && task.id < (oldest || "g"));
    const before = rows.length ? new Map(rows.map((task) => [task.id, task])) : new Map();
    rows = [...got.items.map((task) => (JSON.stringify(before.get(task.id)) === JSON.stringify(task) ? before.get(task.id) : task)), ...kept];
    words();
    draw();
  };

  const again = () => {
    rows = []; known.forEach(([, node]) => node.remove()); known = new Map(); cursor = null; more = true; loading = false;
    const kept = new URLSearchParams(Object.entries(filter).filter(([, v]) => v)).toString();
    history.replaceState(null, "", `#/tasks${kept ? `?${kept}` : ""}`);
    put(said);
    older();
  };
  const choose = (key, values, any) => {
    const box = h("select", { "aria-label": key, onchange: () => { filter[key] = box.value; again(); } },
      values.map((word) => h("option", { value: word, selected: word === filter[key] }, word.replace("_", " ") || any)));
    return box;
  };
  const typed = (key, hint) => h("input", { type: "search", value: filter[key], placeholder: hint, "aria-label": hint, "data-filter": key === "agent", onchange: (event) => { filter[key] = event.target.value.trim(); again(); } });

  page.append(heading("Tasks", h("span", { class: "grow" }), total),
    h("div", { class: "filters" }, typed("agent", "Agent"), choose("status", STATUSES, "any status"), choose("mode", MODES, "any mode"), typed("session", "Session, agent:key")),
    h("div", { class: "panel", role: "table", "aria-label": "Tasks, newest first" },
      h("div", { role: "rowgroup" }, h("div", { class: "vhead", role: "row" }, ["status", "agent", "asked"].map((word) => h("span", { role: "columnheader" }, word)),
        ["took", "tokens", "cost", "accepted"].map((word) => h("span", { class: "right", role: "columnheader" }, word)))), space), said);
  const onScroll = () => requestAnimationFrame(draw);
  window.addEventListener("scroll", onScroll, { passive: true });
  window.addEventListener("resize", onScroll);
  const loop = follow(page, fresh);
  return () => { loop.stop(); window.removeEventListener("scroll", onScroll); window.removeEventListener("resize", onScroll); };
}
