// A plan as a graph: each step to the right of all it depends on.

import { s, tone } from "./dom.js";

const W = 190, H = 54, GAP_X = 56, GAP_Y = 18;
const cut = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

/** The column of each step: one more than the furthest step it needs. Plans have no circles; a broken one still ends. */
function columns(steps) {
  const at = new Map(steps.map((step) => [step.id, 0]));
  for (let pass = 0; pass < steps.length; pass++)
    for (const step of steps) for (const needed of step.depends_on ?? []) if (at.has(needed)) at.set(step.id, Math.max(at.get(step.id), Math.min(at.get(needed) + 1, steps.length)));
  return at;
}

export function graph(steps) {
  const column = columns(steps), filled = [], place = new Map();
  for (const step of steps) {
    const x = column.get(step.id), y = filled[x] ?? 0;
    filled[x] = y + 1;
    place.set(step.id, [x * (W + GAP_X) + 2, y * (H + GAP_Y) + 2]);
  }
  const width = filled.length * (W + GAP_X) - GAP_X + 4, height = Math.max(...filled.map((n) => n ?? 0)) * (H + GAP_Y) - GAP_Y + 4;
  const arrows = steps.flatMap((step) => (step.depends_on ?? []).filter((id) => place.has(id)).map((id) => {
    const [fx, fy] = place.get(id), [tx, ty] = place.get(step.id);
    const x1 = fx + W, y1 = fy + H / 2, x2 = tx - 3, y2 = ty + H / 2, bend = (x2 - x1) / 2;
    return s("path", { d: `M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`, "marker-end": "url(#tip)" });
  }));
  const words = steps.map((step) => `${step.id} by ${step.agent}: ${step.state}${step.depends_on?.length ? `, after ${step.depends_on.join(", ")}` : ""}`).join(". ");
  const SHAPES = { completed: "●", failed: "▲", running: "◐", queued: "○", cancelled: "■" };
  return s("svg", { class: "graph", width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Plan: ${words}` },
    s("defs", {}, s("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, s("path", { d: "M0 0 8 4 0 8Z" }))),
    arrows, steps.map((step) => {
      const [x, y] = place.get(step.id);
      return s("g", { class: "node", "data-tone": tone(step.state) }, s("title", {}, step.task), s("rect", { x, y, width: W, height: H, rx: 7 }),
        s("text", { x: x + 12, y: y + 22 }, `${SHAPES[step.state] ?? "○"} ${cut(step.id, 20)}`), s("text", { class: "sub", x: x + 12, y: y + 41 }, `${cut(step.agent, 16)} · ${step.state}`));
    }));
}
