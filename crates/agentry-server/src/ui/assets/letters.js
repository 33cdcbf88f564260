// Dead letters: what was given up. Look, edit, replay, drop.

import { distance, h, put, state, text } from "./dom.js";
import { get, part, patch, post, remove } from "./api.js";
import { confirm, empty, follow, heading, note, problem, table } from "./parts.js";

export function show(page, { query }) {
  const list = h("div", {}), one = h("div", {}), pages = h("p", { class: "row" }), cursors = [null];
  let all = query.get("all") === "true", opened = null;
  const at = (letter) => `/v1/dead-letters/${part(letter.id)}`;

  const edit = (letter) => {
    const box = h("textarea", { rows: 12, value: text(letter.payload), "aria-label": "Payload" });
    const isText = typeof letter.payload === "string";
    return confirm("Edit the payload", isText ? "Text is kept as text; what begins with { or [ is read as JSON." : "JSON. It is checked before it is kept.", "Keep it", async () => {
      let payload = box.value;
      if (!isText || /^\s*[[{]/.test(payload)) try { payload = JSON.parse(payload); } catch (error) { throw new Error(`this is not JSON: ${error.message}`); }
      await patch(at(letter), { payload });
      note("Changed", "Undo", async () => { await patch(at(letter), { payload: letter.payload }); loop.now(); });
      loop.now();
    }, { fields: [box] });
  };
  const replay = (letter) => confirm("Replay this dead letter?", letter.origin === "task" ? "A new task is accepted with this payload." : "The message goes back into the outbox with fresh tries.", "Replay", async () => {
    const made = await post(`${at(letter)}/replay`);
    note("Replayed", made.task && "Cancel the task", made.task && (() => post(`/v1/tasks/${made.task}/cancel`)));
    opened = null; loop.now();
  });
  const drop = (letter) => confirm("Drop this dead letter?", "It is given up for good. Its task and journal stay to be read.", "Drop for good", async () => { await remove(at(letter)); note("Dropped"); opened = null; loop.now(); }, { danger: true });

  const columns = [
    ["given up", (letter) => distance(letter.created_at)], ["agent", (letter) => letter.agent], ["what", (letter) => letter.origin], ["state", (letter) => state(letter.state)],
    ["reason", (letter) => h("button", { type: "button", class: "link", "aria-expanded": String(opened === letter.id), onclick: () => { opened = opened === letter.id ? null : letter.id; loop.now(); } }, letter.reason.message)],
    ["actions", (letter) => letter.state === "open" && h("div", { class: "row" }, h("button", { type: "button", onclick: () => replay(letter) }, "Replay"), h("button", { type: "button", onclick: () => edit(letter) }, "Edit"), h("button", { type: "button", class: "danger", onclick: () => drop(letter) }, "Drop"))],
  ];
  const which = h("select", { "aria-label": "Which", onchange: () => { all = which.value === "all"; cursors.length = 1; loop.now(); } }, h("option", { value: "open", selected: !all }, "open ones"), h("option", { value: "all", selected: all }, "all"));
  page.append(heading("Dead letters"), h("div", { class: "filters" }, which), list, pages, one);
  const loop = follow(page, async () => {
    const got = await get("/v1/dead-letters", { all, cursor: cursors.at(-1), limit: 50 });
    put(list, got.items.length ? table("Dead letters", columns, got.items) : empty("Nothing was given up. Tasks that fail for good would be here, to be replayed.", "agentry dead-letters"));
    put(pages, cursors.length > 1 && h("button", { type: "button", onclick: () => { cursors.pop(); loop.now(); } }, "Previous page"), got.next_cursor && h("button", { type: "button", onclick: () => { cursors.push(got.next_cursor); loop.now(); } }, "Next page"));
    const letter = got.items.find((each) => each.id === opened);
    put(one, letter && [h("h2", {}, "What was given up"), problem({ message: letter.reason.message, code: letter.reason.code }), h("p", {}, h("a", { href: `#/tasks/${letter.task}` }, "Its task and timeline")), h("pre", { tabindex: "0" }, text(letter.payload))]);
  });
  return loop.stop;
}
