// Bars over days. The same numbers stand in a table below, for readers and for copying.

import { h, s } from "./dom.js";

const W = 1200, H = 180, LEFT = 58, BOTTOM = 24, TOP = 10;

/** A round number above `most`, and steps to it. */
function scale(most) {
  const power = 10 ** Math.floor(Math.log10(most || 1));
  const top = [1, 2, 2.5, 5, 10].map((n) => n * power).find((n) => n >= most) ?? power * 10;
  return [0, top / 2, top];
}

/** `rows` are `[label, number]`; `show` writes a number. */
export function bars(title, rows, show) {
  const most = Math.max(...rows.map(([, n]) => n), 0) || 1;
  const ticks = scale(most), top = ticks.at(-1);
  const y = (n) => TOP + (H - TOP - BOTTOM) * (1 - n / top);
  const wide = (W - LEFT) / rows.length;
  const every = Math.ceil(rows.length / 12);
  const total = rows.reduce((sum, [, n]) => sum + n, 0);
  return h("figure", { class: "panel card" }, h("figcaption", { class: "faint" }, title),
    s("svg", { class: "plot", viewBox: `0 0 ${W} ${H}`, role: "img", "aria-label": `${title}: ${show(total)} in all, at most ${show(most)} on one day` },
      ticks.map((n) => [s("line", { x1: LEFT, x2: W, y1: y(n), y2: y(n) }), s("text", { x: LEFT - 8, y: y(n) + 4, "text-anchor": "end" }, show(n))]),
      rows.map(([label, n], i) => [s("rect", { class: "bar-day", x: LEFT + i * wide + wide * 0.15, y: y(n), width: Math.max(1, wide * 0.7), height: H - BOTTOM - y(n) }, s("title", {}, `${label}: ${show(n)}`)),
        i % every === 0 && s("text", { x: LEFT + i * wide + wide / 2, y: H - 7, "text-anchor": "middle" }, label.slice(5))])));
}
