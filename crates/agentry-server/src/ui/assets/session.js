// A session as a conversation, with a box to go on with it.

import { count, h, moment, put } from "./dom.js";
import { get, part, post, remove } from "./api.js";
import { confirm, figure, follow, heading, note, problem } from "./parts.js";

const WHO = { user: "user", assistant: "agent", system: "system", tool: "tool" };
/** Messages shown at most: the newest; older ones come page by page. */
const PAGE = 200;

function said({ message, at, task, number }, agent) {
  const role = message.role, name = role === "assistant" ? agent : WHO[role] ?? role;
  return h("article", { class: "say", "data-who": role, "aria-label": `${name}, message ${number}` },
    h("header", {}, h("span", {}, name), moment(at), h("a", { href: `#/tasks/${task}` }, "task")), message.content,
    (message.tool_calls ?? []).map((call) => h("pre", {}, `${call.name}(${call.arguments})`)));
}

export function show(page, { id }) {
  const agent = id.split(":")[0], key = id.slice(agent.length + 1);
  const top = h("div", {}), before = h("div", {}), talk = h("div", { class: "talk", role: "log", "aria-label": "Conversation" }), wrong = h("div", {});
  let from = null, shown = "";
  const load = async () => {
    const head = await get(`/v1/sessions/${part(id)}`, { limit: 1 });
    from ??= Math.max(0, head.messages - PAGE);
    const { history } = await get(`/v1/sessions/${part(id)}`, { after: from, limit: 1000 });
    put(top, h("div", { class: "head" }, figure(count(head.turns), head.turns === 1 ? "turn" : "turns"), figure(count(head.messages), "messages"), head.open_tasks > 0 && figure(count(head.open_tasks), "open tasks"),
      h("span", { class: "grow" }), h("a", { class: "button", href: `#/tasks?session=${part(id)}` }, "Its tasks"),
      h("button", { type: "button", class: "danger", onclick: () => forget() }, "Forget")),
    head.summary && h("details", { class: "panel card" }, h("summary", {}, `Summary of the first ${count(head.summary.through)} messages`), h("p", {}, head.summary.text)));
    put(before, from > 0 && h("p", {}, h("button", { type: "button", onclick: () => { from = Math.max(0, from - PAGE); loop.now(); } }, "Earlier messages")));
    const mark = history.map((one) => one.number).join();
    if (mark !== shown) { shown = mark; put(talk, history.map((one) => said(one, agent))); }
  };
  const forget = () => confirm("Forget this conversation?", `All ${shown ? shown.split(",").length : 0} messages of “${key}” are deleted for good. The next task under this key begins anew.`, "Forget for good",
    async () => { await remove(`/v1/sessions/${part(id)}`); note("Forgotten"); location.hash = "#/sessions"; }, { danger: true });
  const words = h("textarea", { rows: 2, "aria-label": "What to say", placeholder: "Say something in this conversation" });
  const form = h("form", { class: "panel card", onsubmit: async (event) => {
    event.preventDefault();
    try { await post("/v1/tasks", { agent, session: key, input: words.value }); words.value = ""; put(wrong); note("Accepted"); loop.now(); } catch (error) { put(wrong, problem(error)); }
  } }, words, wrong, h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Send")));
  page.append(h("p", { class: "crumb" }, h("a", { href: "#/sessions" }, "Sessions")), heading(`${agent} · ${key}`), top, before, talk, h("h2", {}, "Go on"), form);
  const loop = follow(page, load);
  return loop.stop;
}
