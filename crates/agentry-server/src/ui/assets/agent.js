// One agent: what it is, how it does, what it did last; and a box to ask it something.

import { count, distance, h, put, rate, span, state, usd } from "./dom.js";
import { get, part, post } from "./api.js";
import { copyable, empty, figure, follow, heading, note, problem, spark } from "./parts.js";

const fact = (name, value) => value !== null && value !== undefined && value !== "" && h("div", {}, h("dt", {}, name), h("dd", {}, value));

function ask(agent) {
  const input = h("textarea", { rows: 3, "aria-label": `What to ask ${agent.name}`, placeholder: "What is asked" });
  const session = agent.mode === "continuous" && h("input", { placeholder: "session key, optional", "aria-label": "Session key" });
  const said = h("div", {});
  const form = h("form", { class: "panel card", onsubmit: async (event) => {
    event.preventDefault();
    try {
      const made = await post("/v1/tasks", { agent: agent.name, input: input.value, ...(session?.value ? { session: session.value } : {}) });
      note("Accepted");
      location.hash = `#/tasks/${made.id}`;
    } catch (error) { put(said, problem(error)); }
  } }, h("h2", {}, "Ask it"), input, said, h("div", { class: "row" }, session, h("button", { class: "primary", type: "submit" }, "Send")));
  return form;
}

export function show(page, { id }) {
  const body = h("div", {}), asking = h("div", {});
  page.append(heading(id), body, asking);
  let asked = false;
  const load = async () => {
    const agent = await get(`/v1/agents/${part(id)}`);
    const { counters, activity } = agent;
    put(body,
      h("div", { class: "head" }, state(agent.status), figure(rate(activity.per_minute), "tasks/min", spark(activity.spark)), figure(span(activity.p95_ms), "p95"),
        figure(count(activity.failed), activity.failed === 1 ? "error" : "errors"), figure(usd(counters.cost_usd_today), "today", agent.budget_usd_day && ` of ${usd(agent.budget_usd_day)}`)),
      agent.error && problem({ message: agent.error }), agent.reason && agent.status !== "healthy" && problem({ message: agent.reason }),
      agent.warnings.map((words) => h("div", { class: "notice" }, words)),
      h("div", { class: "panel" }, h("dl", { class: "facts" }, fact("what for", agent.description), fact("mode", agent.mode), fact("version", agent.version && copyable(agent.version)), fact("file", h("span", { class: "mono" }, agent.file)),
        fact("model", agent.model), fact("type", agent.agent_type), fact("tags", agent.tags.join(", ")), fact("tools", agent.tools.join(", ")), fact("subscribes to", agent.subscriptions.join(", ")),
        fact("calls today", `${count(counters.llm_calls_today)}, ${count(counters.failed_calls_today)} failed`), fact("tokens today", `${count(counters.input_tokens_today)} in, ${count(counters.output_tokens_today)} out`), fact("restarts", count(counters.restarts)))),
      h("h2", {}, "Last tasks ", h("a", { href: `#/tasks?agent=${part(id)}` }, "all")), await last(id));
    if (!asked && agent.version) { asked = true; put(asking, ask(agent)); }
  };
  const loop = follow(page, load);
  return loop.stop;
}

async function last(agent) {
  const { items } = await get("/v1/tasks", { agent, limit: 10, brief: true });
  if (!items.length) return empty("Its tasks would be here.", `agentry run ${agent} "…"`);
  return h("ul", { class: "panel plain" }, items.map((task) => h("li", {}, state(task.status), " ", h("a", { href: `#/tasks/${task.id}` }, task.input || "–"),
    task.error && h("span", { class: "faint" }, ` — ${task.error.message}`), h("span", { class: "faint" }, ` · ${distance(task.created_at)}`))));
}
