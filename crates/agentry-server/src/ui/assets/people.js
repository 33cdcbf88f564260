// People: what waits for an answer, oldest first, with the answer box in place.

import { distance, h, moment, put, state } from "./dom.js";
import { get, post } from "./api.js";
import { empty, follow, heading, note, problem, table } from "./parts.js";

function card(one, done) {
  const wrong = h("div", {});
  const send = async (words) => {
    try { await post(`/v1/clarifications/${one.id}/answer`, { answer: words, by: "dashboard" }); note("Answered; its task goes on"); done(); } catch (error) { put(wrong, problem(error)); }
  };
  const box = one.options?.length ? h("div", { class: "row", role: "group", "aria-label": "Options" }, one.options.map((option) => h("button", { type: "button", onclick: () => send(option) }, option)))
    : h("form", { onsubmit: (event) => { event.preventDefault(); send(event.target.elements.answer.value); } },
      h("label", { class: "field" }, "Your answer", h("textarea", { name: "answer", rows: 2, required: true, maxlength: 16384 })), h("div", { class: "row" }, h("button", { class: "primary", type: "submit" }, "Answer")));
  return h("section", { class: "panel card", "data-id": one.id, "aria-label": `Question of ${one.agent}` }, h("h2", {}, one.question),
    h("p", { class: "faint" }, h("a", { href: `#/tasks/${one.task}` }, `task of ${one.agent}`), " · asked ", distance(one.asked_at), " · expires ", distance(one.expires_at)), box, wrong);
}

function ending(one) {
  const how = one.resolution;
  const kind = how.kind ?? how.how ?? Object.keys(how)[0];
  const inner = how[kind] && typeof how[kind] === "object" ? how[kind] : how;
  return h("span", {}, inner.answer ? `“${inner.answer}”` : "", inner.by ? ` by ${inner.by}` : "", !inner.answer && state(String(kind)), " ", inner.at && moment(inner.at));
}

export function show(page) {
  const list = h("div", {}), past = h("div", {});
  page.append(heading("People"), list, h("details", { ontoggle: (event) => { if (event.target.open) ended(); } }, h("summary", {}, "Questions that have ended"), past));
  const ended = async () => {
    const { items } = await get("/v1/clarifications", { all: true, limit: 200 });
    const done = items.filter((one) => one.resolution).reverse();
    put(past, done.length ? table("Ended questions", [["question", (one) => one.question], ["agent", (one) => one.agent], ["task", (one) => h("a", { href: `#/tasks/${one.task}` }, "open")], ["answer", ending]], done) : empty("None yet."));
  };
  // Cards stay while somebody writes in them: only what came and what went is changed.
  const load = async () => {
    const { items, next_cursor } = await get("/v1/clarifications", { limit: 100 });
    const have = new Map([...list.querySelectorAll("[data-id]")].map((node) => [node.dataset.id, node]));
    put(list, items.length ? items.map((one) => have.get(one.id) ?? card(one, () => loop.now())) : empty("Nobody waits for an answer. Questions of agents would be here, and in Slack.", "agentry clarifications"),
      next_cursor && h("p", { class: "faint" }, "There are more; they appear when these are answered."));
  };
  const guarded = async () => { if (!list.contains(document.activeElement) || document.activeElement.tagName !== "TEXTAREA") await load(); };
  const loop = follow(page, guarded);
  return loop.stop;
}
