// One task: what became of it and why, as a timeline. Click a row for what went in and came out.

import { count, h, moment, put, span, state, text, usd } from "./dom.js";
import { get, live, part, post } from "./api.js";
import { confirm, copyable, figure, heading, note, problem } from "./parts.js";
import { graph } from "./plan.js";
import { planOf, rowsOf } from "./timeline.js";

const ENDED = new Set(["completed", "failed", "timed_out", "cancelled"]);
/** The journal is read again at most this often while the task runs. */
const AGAIN_MS = 700;
const KINDS = [["queue", "queued"], ["model", "model call"], ["tool", "tool call"], ["wait", "waits for a person"], ["retry", "waits for a retry"], ["bad", "failed"]];

const fact = (name, value) => value !== null && value !== undefined && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));

function source(task) {
  const from = task.source.kind ?? Object.keys(task.source)[0] ?? text(task.source);
  if (task.source.schedule) return `schedule ${task.source.schedule}`;
  if (task.source.topic) return `event on ${task.source.topic}`;
  if (task.source.of) return h("a", { href: `#/tasks/${task.source.of}` }, "replay of a dead letter");
  return String(from);
}

function fall(task, journal, opened, redraw) {
  const { rows, begin, end } = rowsOf(task, journal, Date.now());
  const whole = Math.max(1, end - begin);
  const line = (row, index) => {
    const key = `${row.kind}/${row.label}/${index}`, isOpen = opened.has(key);
    const extra = [row.error && h("span", { class: "problem" }, row.error.message)];
    const note = row.kind === "mark" ? "" : [span(row.took), row.open ? " so far" : ""].join("");
    const bar = h("span", { class: "bar", "data-kind": row.kind, title: `${row.label}: ${note}`, vars: { left: `${(100 * (row.from - begin)) / whole}%`, width: `${(100 * (row.to - row.from)) / whole}%` } });
    const toggle = h("button", { type: "button", class: "link", "aria-expanded": String(isOpen), "data-key": key, onclick: () => { if (isOpen) opened.delete(key); else opened.add(key); redraw(key); } }, row.label);
    return [h("div", { class: "fall-row" }, h("div", { class: "label", vars: { "--depth": row.depth } }, toggle), h("div", { class: "track" }, bar), h("div", { class: "note" }, note)),
      isOpen && h("div", { class: "fall-more" }, extra,
        h("div", { class: "faint" }, [`begins ${span(row.from - begin)} after acceptance`, row.tokens && `${count(row.tokens.input_tokens)} tokens in (${count(row.tokens.cached_tokens ?? 0)} cached), ${count(row.tokens.output_tokens)} out`,
          row.cost && usd(row.cost), row.call !== undefined && `the call itself ${span(row.call)}`, row.ttft && `first token after ${span(row.ttft)}`].filter(Boolean).join(" · ")),
        row.details.map(([title, value]) => value !== null && value !== undefined && value !== "" && h("div", {}, h("div", { class: "faint" }, title), h("pre", { tabindex: "0" }, text(value)))))];
  };
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => h("span", {}, span(whole * share)));
  return h("div", { class: "panel" }, h("div", { class: "fall-axis" }, h("span", {}, "step"), h("div", { class: "ticks" }, ticks), h("span", { class: "right" }, "took")),
    h("div", { class: "fall" }, rows.map(line)), h("div", { class: "legend" }, KINDS.map(([kind, words]) => h("span", {}, h("i", { class: "bar", "data-kind": kind }), words))));
}

function actions(task, reload) {
  const cancel = () => confirm("Cancel this task?", "What it did so far stays; what it paid for is paid. It cannot be resumed, only run again.", "Cancel task", async () => { await post(`/v1/tasks/${task.id}/cancel`); note("Asked to stop"); await reload(); }, { danger: true });
  const again = () => confirm("Run it again?", "A new task with the same agent, input and session.", "Run again", async () => {
    const key = task.session && task.session.slice(task.agent.length + 1);
    const made = await post("/v1/tasks", { agent: task.agent, input: task.input, ...(key ? { session: key } : {}) });
    note("Accepted", "Cancel it", () => post(`/v1/tasks/${made.id}/cancel`));
    location.hash = `#/tasks/${made.id}`;
  });
  return h("div", { class: "row" }, !ENDED.has(task.status) && h("button", { type: "button", class: "danger", onclick: cancel, disabled: task.cancel_requested }, task.cancel_requested ? "Asked to stop" : "Cancel"),
    ENDED.has(task.status) && h("button", { type: "button", onclick: again }, "Run again"),
    task.session && h("a", { class: "button", href: `#/sessions/${part(task.session)}` }, "Open session"),
    task.clarifications.length > 0 && h("a", { class: "button", href: "#/people" }, "Answer its question"));
}

export function show(page, { id }) {
  const body = h("div", {}), opened = new Set();
  page.append(h("p", { class: "crumb" }, h("a", { href: "#/tasks" }, "Tasks")), heading("Task"), body);
  let task = null, journal = [], events = null, timer = null, stopped = false;

  const draw = (focus) => {
    page.querySelector("h1").textContent = `Task of ${task.agent}`;
    const { spent } = task, plan = planOf(journal, ENDED.has(task.status));
    put(body, h("div", { class: "head" }, state(task.status), figure(span(task.duration_ms ?? Date.now() - new Date(task.created_at)), task.finished_at ? "in all" : "so far"),
      figure(count(spent.llm_calls), spent.llm_calls === 1 ? "model call" : "model calls"), figure(`${count(spent.input_tokens)} → ${count(spent.output_tokens)}`, "tokens"), figure(usd(spent.cost_usd), "cost"),
      task.attempt > 1 && figure(String(task.attempt), "attempts"), h("span", { class: "grow" }), actions(task, load)),
    task.error && h("div", { class: "problem-box" }, h("b", {}, `▲ ${task.status.replace("_", " ")}: `), task.error.message, h("span", { class: "faint" }, ` (${task.error.code})`)),
    plan && [h("h2", {}, "Plan"), h("div", { class: "panel scroll", tabindex: "0", role: "region", "aria-label": "Plan" }, h("div", { class: "card" }, graph(plan)))],
    h("h2", {}, "Timeline"), fall(task, journal, opened, draw),
    h("h2", {}, "Asked and answered"),
    h("div", { class: "panel card" }, h("details", { open: text(task.input ?? "").length < 600 }, h("summary", {}, "Input"), h("pre", { tabindex: "0" }, text(task.input))),
      task.output !== null && h("details", { open: text(task.output).length < 3000 }, h("summary", {}, "Output"), h("pre", { tabindex: "0" }, text(task.output)))),
    h("h2", {}, "Facts"),
    h("div", { class: "panel" }, h("dl", { class: "facts" }, fact("id", copyable(task.id)), fact("trace", copyable(task.trace_id)), fact("agent", h("a", { href: `#/agents/${part(task.agent)}` }, task.agent)), fact("version", task.agent_version),
      fact("mode", task.mode), fact("came from", source(task)), fact("priority", task.priority), fact("running time given", span(task.timeout_seconds * 1000)), fact("worker", task.worker), fact("accepted", moment(task.created_at)), fact("claimed", task.started_at && moment(task.started_at)), fact("ended", task.finished_at && moment(task.finished_at)))));
    if (typeof focus === "string") body.querySelector(`[data-key="${CSS.escape(focus)}"]`)?.focus();
  };
  const load = async () => {
    try {
      const got = await get(`/v1/tasks/${part(id)}`, { journal: true });
      if (stopped) return;
      task = got; journal = got.journal ?? [];
      draw(document.activeElement?.dataset?.key);
      if (ENDED.has(task.status)) { events?.close(); events = null; }
    } catch (error) { put(body, problem(error)); }
  };
  const soon = () => { timer ??= setTimeout(() => { timer = null; load(); }, AGAIN_MS); };
  load().then(() => {
    if (stopped || !task || ENDED.has(task.status)) return;
    events = new EventSource(`/v1/tasks/${part(id)}/events`);
    for (const kind of ["status", "end", "model_started", "model_completed", "model_failed", "tool_started", "tool_completed", "asked", "answered", "attempt_failed", "plan_accepted", "step_completed", "step_failed", "recovered"])
      events.addEventListener(kind, soon);
  });
  const tick = () => { if (task && !ENDED.has(task.status) && !document.querySelector("dialog[open]") && !body.contains(document.activeElement)) draw(); };
  live.on.addEventListener("overview", tick);
  return () => { stopped = true; events?.close(); clearTimeout(timer); live.on.removeEventListener("overview", tick); };
}
