// Conversations of continuous agents, last touched first.

import { count, distance, h, put } from "./dom.js";
import { get, part } from "./api.js";
import { empty, follow, heading, table } from "./parts.js";

const COLUMNS = [
  ["session", (one) => h("a", { href: `#/sessions/${part(one.id)}` }, one.key)], ["agent", (one) => h("a", { href: `#/agents/${part(one.agent)}` }, one.agent)],
  ["turns", (one) => count(one.turns), "right"], ["messages", (one) => count(one.messages), "right"], ["open tasks", (one) => count(one.open_tasks), "right"],
  ["began", (one) => distance(one.created_at), "right"], ["last turn", (one) => distance(one.updated_at), "right"],
];

export function show(page, { query }) {
  const list = h("div", {}), cursors = [null], pages = h("p", { class: "row" });
  let agent = query.get("agent") ?? "";
  const find = h("input", { type: "search", "data-filter": true, value: agent, placeholder: "Agent", "aria-label": "Sessions of this agent", onchange: () => { agent = find.value.trim(); cursors.length = 1; loop.now(); } });
  page.append(heading("Sessions"), h("div", { class: "filters" }, find), list, pages);
  const loop = follow(page, async () => {
    const got = await get("/v1/sessions", { agent, cursor: cursors.at(-1), limit: 100 });
    put(list, got.items.length ? table("Sessions", COLUMNS, got.items) : empty("Conversations of continuous agents would be here.", 'agentry run support "Where is my order?" --session customer-17'));
    put(pages, cursors.length > 1 && h("button", { type: "button", onclick: () => { cursors.pop(); loop.now(); } }, "Previous page"),
      got.next_cursor && h("button", { type: "button", onclick: () => { cursors.push(got.next_cursor); loop.now(); } }, "Next page"));
  });
  return loop.stop;
}
