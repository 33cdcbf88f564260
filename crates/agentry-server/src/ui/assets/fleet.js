// The fleet: how every agent is doing. Pages of the server, so ten thousand agents cost no more than one screen.

import { count, h, moment, put, rate, span, state, usd } from "./dom.js";
import { get, live, part } from "./api.js";
import { empty, figure, follow, heading, spark, table } from "./parts.js";

const ROWS = 100;
const SLOTS_MS = 10_000;
/** Schedules whose next slot is asked for: one page. */
const SCHEDULES = 1_000;

const ratio = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part ? 1 : 0)} %` : "0 %");

function summary(now) {
  if (!now) return heading("Fleet");
  const { agents, tasks } = now;
  const states = ["healthy", "starting", "restarting", "failed", "invalid", "disabled"].filter((word) => agents[word]);
  return heading("Fleet",
    states.map((word) => h("span", { class: "figure" }, h("b", {}, count(agents[word])), " ", state(word))),
    h("span", { class: "grow" }),
    figure(rate(now.per_minute), "tasks/min", spark(now.spark)), figure(span(now.p95_ms), "p95"),
    figure(ratio(now.failed, now.ended), "errors"), figure(count(tasks.queued), "queued"), figure(count(tasks.running), "running"),
    figure(usd(now.cost_usd_today), "today", now.budget_usd_day && ` of ${usd(now.budget_usd_day)}`));
}

const link = (agent) => h("a", { href: `#/agents/${part(agent.name)}` }, agent.name);
const tasksOf = (agent, words, status) => h("a", { href: `#/tasks?agent=${part(agent.name)}${status ? `&status=${status}` : ""}` }, words);

/** Idle is a healthy agent that nobody asked anything lately. */
const shown = (agent) => state(agent.status === "healthy" && !agent.activity.accepted && !agent.activity.queued ? "idle" : agent.status);

const COLUMNS = [
  ["agent", link], ["mode", (a) => a.mode ?? "–"], ["version", (a) => h("span", { class: "mono" }, a.version?.slice(0, 6) ?? "–")],
  ["state", shown],
  ["tasks/min", (a) => h("span", {}, rate(a.activity.per_minute), spark(a.activity.spark)), "right"],
  ["p95", (a) => span(a.activity.p95_ms), "right"],
  ["errors", (a) => (a.activity.failed ? tasksOf(a, `▲ ${count(a.activity.failed)}`, "failed") : "0"), "right"],
  ["queue", (a) => (a.activity.queued ? tasksOf(a, count(a.activity.queued), "queued") : "0"), "right"],
  ["today", (a) => usd(a.counters.cost_usd_today), "right"],
];

/** An agent that cannot run says why across the columns that would have its numbers. */
function trouble(agent) {
  const why = agent.error ?? (agent.status === "failed" || agent.status === "starting" || agent.status === "restarting" ? agent.reason : null);
  if (!why || (agent.version && agent.status === "healthy")) return null;
  return [h("td", { "data-label": "agent" }, link(agent)), h("td", { "data-label": "mode" }, agent.mode ?? "–"),
    h("td", { "data-label": "version", class: "mono" }, agent.version?.slice(0, 6) ?? "–"), h("td", { "data-label": "state" }, state(agent.status)),
    h("td", { colspan: 5, class: "problem wide" }, why)];
}

/** A scheduled agent that did nothing lately says when it will. */
function waits(agent, schedule) {
  if (!schedule || agent.activity.accepted || agent.status !== "healthy") return null;
  const zone = schedule.spec.timing.timezone;
  return [...COLUMNS.slice(0, 4).map(([title, cell, cls]) => h("td", { class: cls, "data-label": title }, cell(agent))),
    h("td", { colspan: 4, class: "wide faint" }, "next ", moment(schedule.next_slots[0]), zone && ` · ${schedule.spec.timing.cron} in ${zone}`), h("td", { class: "right", "data-label": "today" }, usd(agent.counters.cost_usd_today))];
}

export function show(page, { query }) {
  const top = h("div", {}), list = h("div", {}), pages = h("p", { class: "row" });
  const cursors = [null];
  const filter = { q: query.get("q") ?? "", status: query.get("status") ?? "" };
  const changed = () => { cursors.length = 1; loop.now(); };
  const find = h("input", { type: "search", "data-filter": true, placeholder: "Name …", value: filter.q, "aria-label": "Find agents by name", oninput: () => { filter.q = find.value; changed(); } });
  const pick = h("select", { "aria-label": "State", onchange: () => { filter.status = pick.value; changed(); } },
    ["", "healthy", "starting", "restarting", "failed", "invalid", "disabled"].map((word) => h("option", { value: word, selected: word === filter.status }, word || "any state")));
  let next = new Map(), asked = 0;
  /** The next slot of each scheduled agent; it moves slowly. */
  const slots = async () => {
    if (Date.now() - asked < SLOTS_MS) return;
    asked = Date.now();
    const { items } = await get("/v1/schedules", { limit: SCHEDULES });
    next = new Map(items.filter((one) => one.next_slots.length).map((one) => [one.agent, one]));
  };
  const instead = (agent) => trouble(agent) ?? waits(agent, next.get(agent.name));
  const load = async () => {
    await slots();
    const got = await get("/v1/agents", { ...filter, cursor: cursors.at(-1), limit: ROWS });
    put(top, summary(live.last));
    put(list, got.items.length ? table("Agents", COLUMNS, got.items, instead)
      : filter.q || filter.status ? empty("No agent is like that.")
        : empty("The agents of this fleet would be here. Put a file into the agents folder; it is loaded when it appears.", "agentry validate agents/"));
    put(pages, cursors.length > 1 && h("button", { type: "button", onclick: () => { cursors.pop(); loop.now(); } }, "Previous page"),
      got.next_cursor && h("button", { type: "button", onclick: () => { cursors.push(got.next_cursor); loop.now(); } }, "Next page"));
  };
  put(top, summary(live.last));
  page.append(top, h("div", { class: "filters" }, find, pick), list, pages);
  const loop = follow(page, load);
  return loop.stop;
}
