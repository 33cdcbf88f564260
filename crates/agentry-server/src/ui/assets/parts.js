// What pages share: headings, tables, sparklines, problems, confirmations and notes.

import { h, put, s } from "./dom.js";
import { live } from "./api.js";

export const figure = (value, words, extra) => h("span", { class: "figure" }, h("b", {}, value), ` ${words}`, extra);

export function heading(title, ...rest) {
  return h("div", { class: "head" }, h("h1", { tabindex: "-1" }, title), rest);
}

/** Bars of a sparkline, as the server counts them. */
const BARS = 12;

/** Bars of recent numbers; the words beside it say the number, so it is hidden from readers. */
export function spark(found) {
  const values = found.length ? found : Array(BARS).fill(0);
  const most = Math.max(1, ...values);
  const width = values.length * 4;
  return s("svg", { class: "spark", width, height: 14, viewBox: `0 0 ${width} 14`, "aria-hidden": "true" },
    values.map((v, i) => { const tall = v ? Math.max(1.5, (v / most) * 14) : 0.6; return s("rect", { x: i * 4, y: 14 - tall, width: 3, height: tall }); }));
}

/** A table: columns are `[title, cell(row), class?]`. `label` names it for readers. */
export function table(label, columns, rows, span) {
  const head = h("tr", {}, columns.map(([title, , cls]) => h("th", { scope: "col", class: cls }, title)));
  const line = (row) => h("tr", {}, span?.(row) ?? columns.map(([title, cell, cls]) => h("td", { class: cls, "data-label": title }, cell(row))));
  return h("div", { class: "panel scroll", tabindex: "0", role: "region", "aria-label": label },
    h("table", { class: "cards" }, h("thead", {}, head), h("tbody", {}, rows.map(line))));
}

/** What would be here, and the command that makes it so. */
export const empty = (what, command) => h("div", { class: "panel empty" }, h("p", {}, what), command && h("code", {}, command));

/** An error where it belongs, in the server's words. */
export function problem(error) {
  return h("div", { class: "problem-box", role: "alert" }, h("b", {}, "▲ "), error.message,
    error.code && h("span", { class: "faint" }, ` (${error.code})`),
    error.trace && h("div", { class: "faint mono" }, `trace ${error.trace}`));
}

/** Asks before it does; shows the server's reason in place when it refuses. Resolves to what `act` gave, or null. */
export function confirm(title, words, label, act, { danger = false, fields = [] } = {}) {
  return new Promise((done) => {
    const opener = document.activeElement;
    const said = h("div", {});
    const yes = h("button", { class: danger ? "danger" : "primary", type: "submit" }, label);
    const form = h("form", { method: "dialog" }, h("h2", { id: "confirm-title" }, title), words && h("p", {}, words), fields, said,
      h("div", { class: "row" }, h("button", { type: "button", onclick: () => end(null) }, "Back"), yes));
    const box = h("dialog", { "aria-labelledby": "confirm-title" }, form);
    const end = (value) => { box.close(); box.remove(); opener?.focus?.(); done(value); };
    box.addEventListener("cancel", (event) => { event.preventDefault(); end(null); });
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      yes.disabled = true;
      try { end((await act()) ?? true); } catch (error) { put(said, problem(error)); yes.disabled = false; }
    });
    document.body.append(box);
    box.showModal();
    (fields[0]?.querySelector?.("input,textarea,select") ?? yes).focus();
  });
}

const NOTE_MS = 8000, MAX_NOTES = 3;

/** A line at the corner, said once to readers; with a way back when there is one. */
export function note(words, undoLabel, undo) {
  const box = h("div", { class: "note-box" }, h("span", {}, words),
    undo && h("button", { type: "button", onclick: async () => { box.remove(); try { await undo(); } catch (error) { note(error.message); } } }, undoLabel));
  const notes = document.getElementById("notes");
  while (notes.children.length >= MAX_NOTES) notes.firstChild.remove();
  notes.append(box);
  setTimeout(() => box.remove(), NOTE_MS);
}

/** Text that copies itself. */
export function copyable(value, words = value) {
  return h("button", { type: "button", class: "link mono copy", title: "Copy", onclick: async () => {
    try { await navigator.clipboard.writeText(value); note("Copied"); } catch { note("This browser did not let the page copy"); }
  } }, words, h("span", { class: "faint" }, " copy"));
}

/** Ages and what the live picture does not tell are looked at this often all the same. */
const QUIET_MS = 10_000;

/** Runs `load` now, then at most every `ms` while the page is shown and something moved. Errors stand on the page. */
export function follow(page, load, ms = 2000) {
  let busy = false, again = false, last = 0, stopped = false;
  const run = async (asked) => {
    if (stopped) return;
    if (busy) { again ||= asked; return; }
    // What somebody looks at or answers does not change under them; what they asked for does.
    if (!asked && (document.hidden || document.querySelector("dialog[open]"))) return;
    busy = true;
    try { await load(); page.errorBox?.remove(); } catch (error) {
      page.errorBox?.remove();
      page.errorBox = problem(error);
      if (!stopped) page.prepend(page.errorBox);
    }
    busy = false; last = Date.now();
    if (again) { again = false; run(true); }
  };
  const tick = () => { if (Date.now() - last >= ms) run(false); };
  const quiet = setInterval(() => { if (Date.now() - last >= Math.max(ms, QUIET_MS)) run(false); }, 1000);
  live.on.addEventListener("overview", tick);
  run(true);
  return { now: () => run(true), stop: () => { stopped = true; clearInterval(quiet); live.on.removeEventListener("overview", tick); } };
}

/** A button that asks for the next page. */
export const moreButton = (cursor, load) => cursor && h("p", {}, h("button", { type: "button", onclick: load }, "Older"));
