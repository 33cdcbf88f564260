// Reports of the validation suite, as files of a folder.

import { h, moment, put } from "./dom.js";
import { get, part } from "./api.js";
import { empty, follow, heading, table } from "./parts.js";

export function show(page) {
  const list = h("div", {});
  page.append(heading("Bench"), list);
  const loop = follow(page, async () => {
    const { items, folder } = await get("/v1/bench/reports");
    put(list, items.length ? table("Reports", [["report", (one) => h("a", { href: `/bench/${part(one.name)}`, target: "_blank", rel: "noopener" }, one.name)], ["written", (one) => moment(one.written_at)]], items)
      : empty(`Reports of the validation suite would be here, from ${folder}.`, "agentry bench run --profile quick"));
  }, 10_000);
  return loop.stop;
}
