// Workers and queues: who executes, what waits.

import { count, distance, h, put, state } from "./dom.js";
import { get, live } from "./api.js";
import { empty, figure, follow, heading, table } from "./parts.js";

const COLUMNS = [
  ["host", (one) => one.host], ["state", (one) => state(one.alive ? "alive" : "gone")], ["roles", (one) => (one.roles ?? []).join(", ") || "–"], ["modes", (one) => (Array.isArray(one.modes) ? one.modes.join(", ") : String(one.modes)) || "–"],
  ["busy", (one) => h("span", { class: "nowrap" }, `${count(one.busy)} of ${count(one.slots)} `, h("meter", { min: 0, max: Math.max(1, one.slots), value: one.busy, "aria-label": `busy slots of ${one.host}` })), "right"],
  ["started", (one) => distance(one.started_at), "right"], ["last heard", (one) => distance(one.heartbeat_at), "right"],
];

export function show(page) {
  const top = h("div", {}), list = h("div", {}), checks = h("div", {});
  page.append(top, list, h("h2", {}, "What this server needs"), checks);
  put(top, heading("Workers"));
  const loop = follow(page, async () => {
    const [{ items }, health] = await Promise.all([get("/v1/workers"), get("/health/ready").catch((error) => ({ checks: {}, error }))]);
    const tasks = live.last?.tasks;
    put(top, heading("Workers", tasks && [figure(count(tasks.queued), "queued"), figure(count(tasks.running), "running"), figure(count(tasks.waiting), "wait for a person")]));
    put(list, items.length ? table("Workers", COLUMNS, items) : empty("Worker processes would be here; nobody executes tasks now.", "agentry serve --role worker"));
    put(checks, table("Checks", [["check", ([name]) => name], ["state", ([, check]) => state(check.ok ? "ok" : check.required ? "failed" : "missed")], ["found", ([, check]) => check.detail]], Object.entries(health.checks ?? {})));
  });
  return loop.stop;
}
