// What was spent: by day, agent and model; and how far budgets are used up.

import { count, h, put, usd } from "./dom.js";
import { get, part } from "./api.js";
import { empty, figure, follow, heading, table } from "./parts.js";
import { bars } from "./plots.js";

const DAY = 86_400_000;
const day = (ms) => new Date(ms).toISOString().slice(0, 10);

const COLUMNS = (name, link) => [
  [name, (row) => (link ? h("a", { href: `#/agents/${part(row.key)}` }, row.key) : row.key)], ["calls", (row) => count(row.calls), "right"], ["failed", (row) => count(row.failed_calls), "right"],
  ["tokens in", (row) => count(row.input_tokens), "right"], ["cached", (row) => count(row.cached_tokens), "right"], ["tokens out", (row) => count(row.output_tokens), "right"],
  ["unpriced calls", (row) => count(row.unpriced_calls), "right"], ["cost", (row) => usd(row.cost_usd), "right"],
];

function budgets(agents) {
  const with_one = agents.filter((agent) => agent.budget_usd_day);
  if (!with_one.length) return empty("Agents with a daily budget would be here: budget.per_day_usd in the agent's file.");
  return table("Budgets", [["agent", (agent) => h("a", { href: `#/agents/${part(agent.name)}` }, agent.name)], ["today", (agent) => usd(agent.counters.cost_usd_today), "right"], ["of", (agent) => usd(agent.budget_usd_day), "right"],
    ["used", (agent) => { const share = Number(agent.counters.cost_usd_today) / Number(agent.budget_usd_day); return h("span", { class: "nowrap" }, `${(100 * share).toFixed(1)} % `, h("meter", { min: 0, max: 1, high: 0.8, value: share, "aria-label": `budget of ${agent.name}` })); }, "right"]], with_one);
}

export function show(page) {
  const body = h("div", {});
  let days = 30;
  const pick = h("select", { "aria-label": "Span", onchange: () => { days = Number(pick.value); loop.now(); } }, [7, 30, 90].map((n) => h("option", { value: n, selected: n === days }, `${n} days`)));
  const top = h("div", {});
  put(top, heading("Usage"));
  page.append(top, h("div", { class: "filters" }, pick), body);
  const loop = follow(page, async () => {
    const to = Date.now(), from = day(to - (days - 1) * DAY);
    const [byDay, byAgent, byModel, fleet] = await Promise.all([get("/v1/usage", { by: "day", from }), get("/v1/usage", { by: "agent", from }), get("/v1/usage", { by: "model", from }), get("/v1/agents", { limit: 1000 })]);
    const { total } = byDay, found = new Map(byDay.rows.map((row) => [row.key, row]));
    const series = Array.from({ length: days }, (_, i) => day(to - (days - 1 - i) * DAY));
    put(top, heading("Usage", figure(usd(total.cost_usd), `in ${days} days`), figure(count(total.calls), "calls"), figure(`${count(total.input_tokens)} → ${count(total.output_tokens)}`, "tokens"), total.unpriced_calls > 0 && figure(count(total.unpriced_calls), "calls without a price")));
    if (!total.calls) { put(body, empty("What model calls cost would be here.", 'agentry run triage "refund not received"'), h("h2", {}, "Budgets of today"), budgets(fleet.items)); return; }
    put(body, bars("Cost for each UTC day", series.map((key) => [key, Number(found.get(key)?.cost_usd ?? 0)]), usd), bars("Model calls for each UTC day", series.map((key) => [key, found.get(key)?.calls ?? 0]), count),
      h("h2", {}, "Budgets of today"), budgets(fleet.items), h("h2", {}, "By agent"), table("Usage by agent", COLUMNS("agent", true), byAgent.rows), h("h2", {}, "By model"), table("Usage by model", COLUMNS("model"), byModel.rows), h("h2", {}, "By day"), table("Usage by day", COLUMNS("day"), [...byDay.rows].reverse()));
  }, 10_000);
  return loop.stop;
}
