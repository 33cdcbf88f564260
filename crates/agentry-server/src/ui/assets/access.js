// Access: API keys, and the log of who changed what.

import { distance, h, moment, put, state } from "./dom.js";
import { get, me, post, remove, whoAmI } from "./api.js";
import { confirm, copyable, empty, follow, heading, note, problem, table } from "./parts.js";

const standing = (key) => (key.revoked_at && new Date(key.revoked_at) <= new Date() ? "revoked" : key.expires_at && new Date(key.expires_at) <= new Date() ? "expired" : "active");

/** Shows a new key once: the server keeps only its hash. */
function reveal(made) {
  return confirm("Keep this key now", "It is shown once; the server keeps only its hash.", "I have kept it", () => true, { fields: [h("p", {}, copyable(made.key))] });
}

function create(again) {
  const name = h("input", { required: true, maxlength: 64, placeholder: "ci, prometheus, a person" });
  const scope = h("select", {}, ["read", "run", "admin"].map((word) => h("option", { value: word }, word)));
  const days = h("input", { type: "number", min: 1, max: 3650, placeholder: "never" });
  return confirm("Make a key", "read looks, run gives work and steers it, admin also manages keys.", "Make it", async () => {
    const made = await post("/v1/keys", { name: name.value, scope: scope.value, ...(days.value ? { expires_days: Number(days.value) } : {}) });
    setTimeout(() => reveal(made).then(again), 0);
  }, { fields: [h("label", { class: "field" }, "Name", name), h("label", { class: "field" }, "Scope", scope), h("label", { class: "field" }, "Expires after days", days)] });
}

export function show(page) {
  const keys = h("div", {}), log = h("div", {}), cursors = [null];
  const rotate = (key) => confirm(`Rotate “${key.name}”?`, "A new key of the same name and scope is made. The old one goes on for an hour, so that what uses it can change over.", "Rotate", async () => { const made = await post(`/v1/keys/${key.id}/rotate`); setTimeout(() => reveal(made).then(() => loop.now()), 0); });
  const revoke = (key) => confirm(`Revoke “${key.name}”?`, "Whatever uses it is refused within seconds; sessions opened with it end. This cannot be undone.", "Revoke for good", async () => { await remove(`/v1/keys/${key.id}`); note("Revoked"); await whoAmI(); loop.now(); }, { danger: true });
  const columns = [["name", (key) => key.name], ["scope", (key) => key.scope], ["state", (key) => state(standing(key))], ["made", (key) => distance(key.created_at)], ["last used", (key) => (key.last_used_at ? distance(key.last_used_at) : "never")],
    ["expires", (key) => (key.expires_at ? distance(key.expires_at) : "never")], ["actions", (key) => standing(key) === "active" && h("div", { class: "row" }, h("button", { type: "button", onclick: () => rotate(key) }, "Rotate"), h("button", { type: "button", class: "danger", onclick: () => revoke(key) }, "Revoke"))]];
  const entries = [["when", (one) => moment(one.at)], ["who", (one) => one.who], ["what", (one) => h("span", { class: "mono" }, one.action)], ["on", (one) => h("span", { class: "mono" }, one.target)],
    ["outcome", (one) => h("span", {}, state(one.status < 400 ? "ok" : "refused"), ` ${one.status}`)]];
  page.append(heading("Access", h("span", { class: "grow" }), me.signed_in && h("span", { class: "faint" }, `${me.name} · ${me.scope}`), me.signed_in && h("a", { class: "button", href: "#/sign-in" }, "Sign out"),
    h("button", { type: "button", class: "primary", onclick: () => create(() => loop.now()) }, "Make a key")), keys, h("h2", {}, "Audit log"), log);
  const loop = follow(page, async () => {
    const [{ items }, audit] = await Promise.all([get("/v1/keys"), get("/v1/audit", { cursor: cursors.at(-1), limit: 50 })]);
    put(keys, !me.required && h("div", { class: "notice" }, "No key is needed: whoever reaches this server may do everything. The first key that is made changes that."),
      items.length ? table("API keys", columns, items) : empty("API keys would be here.", "agentry keys create ops --scope admin"));
    put(log, audit.items.length ? table("Audit log", entries, audit.items) : empty("Every change would be here: who, what, when, and whether it was allowed."),
      h("p", { class: "row" }, cursors.length > 1 && h("button", { type: "button", onclick: () => { cursors.pop(); loop.now(); } }, "Newer"), audit.next_cursor && h("button", { type: "button", onclick: () => { cursors.push(audit.next_cursor); loop.now(); } }, "Older")));
  });
  return loop.stop;
}
