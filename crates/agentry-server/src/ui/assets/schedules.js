// Schedules: when agents run by themselves, what became of the last slots; trigger, pause, resume.

import { count, distance, h, moment, put, span, state, text } from "./dom.js";
import { get, part, patch, post } from "./api.js";
import { confirm, empty, follow, heading, note, table } from "./parts.js";

const ROWS = 100;
const timing = ({ spec }) => (spec.timing.cron ? `${spec.timing.cron} · ${spec.timing.timezone ?? "UTC"}` : spec.timing.every_ms ? `every ${span(spec.timing.every_ms)}` : text(spec.timing));
const standing = (one) => (one.paused ? "paused" : one.spec.enabled ? "active" : "off");

export function show(page) {
  const list = h("div", {}), pages = h("p", { class: "row" }), slots = h("div", {});
  const cursors = [null];
  let opened = null;
  const act = (name, path) => `/v1/schedules/${part(name)}${path}`;
  const pause = async (one, paused) => { await patch(act(one.name, ""), { paused }); note(paused ? "Paused" : "Resumed", "Undo", async () => { await patch(act(one.name, ""), { paused: !paused }); loop.now(); }); loop.now(); };
  const buttons = (one) => h("div", { class: "row" },
    h("button", { type: "button", onclick: () => confirm(`Fire ${one.name} now?`, "One task, besides its slots.", "Trigger", async () => { const made = await post(act(one.name, "/trigger")); note("Fired", "Cancel it", () => post(`/v1/tasks/${made.id}/cancel`)); loop.now(); }) }, "Trigger"),
    one.paused ? h("button", { type: "button", onclick: () => confirm(`Resume ${one.name}?`, "It fires from its next slot on; slots of the pause are passed over.", "Resume", () => pause(one, false)) }, "Resume")
      : h("button", { type: "button", disabled: !one.spec.enabled, onclick: () => confirm(`Pause ${one.name}?`, "It fires no slots until it is resumed.", "Pause", () => pause(one, true)) }, "Pause"));
  const columns = [
    ["schedule", (one) => h("button", { type: "button", class: "link", "aria-expanded": String(opened === one.name), onclick: () => { opened = opened === one.name ? null : one.name; loop.now(); } }, one.name)],
    ["agent", (one) => h("a", { href: `#/agents/${part(one.agent)}` }, one.agent)], ["when", (one) => h("span", { class: "mono" }, timing(one))], ["state", (one) => state(standing(one))],
    ["next", (one) => (one.next_slots[0] ? h("span", { title: one.next_slots.join("\n") }, moment(one.next_slots[0]), h("span", { class: "faint" }, ` ${distance(one.next_slots[0])}`)) : "–")],
    ["last", (one) => moment(one.last_slot)], ["missed", (one) => count(one.missed), "right"], ["skipped", (one) => count(one.skipped), "right"], ["actions", buttons],
  ];
  page.append(heading("Schedules"), list, pages, slots);
  const loop = follow(page, async () => {
    const { items, next_cursor } = await get("/v1/schedules", { cursor: cursors.at(-1), limit: ROWS });
    put(list, items.length ? table("Schedules", columns, items) : empty("Schedules would be here: agents with execution_mode scheduled, and those made over the API.", "agentry validate agents/"));
    put(pages, cursors.length > 1 && h("button", { type: "button", onclick: () => { cursors.pop(); loop.now(); } }, "Previous page"),
      next_cursor && h("button", { type: "button", onclick: () => { cursors.push(next_cursor); loop.now(); } }, "Next page"));
    if (!opened) { put(slots); return; }
    const one = await get(act(opened, ""));
    put(slots, h("h2", {}, `Slots of ${opened}`), one.last_slots.length ? table(`Slots of ${opened}`, [["slot", (slot) => moment(slot.slot)], ["became", (slot) => state(slot.state)],
      ["decided", (slot) => moment(slot.decided_at)], ["task", (slot) => (slot.task ? h("a", { href: `#/tasks/${slot.task}` }, "open") : "–")]], one.last_slots) : empty("No slot has come yet."));
  });
  return loop.stop;
}
