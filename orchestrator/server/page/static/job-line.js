// One line of a list of jobs, made once and shown for many.

import { h, icon, setText } from "/page/dom.js";
import { age, between, moment, plain } from "/page/format.js";
import { toneOf, whyOf, wordOf } from "/page/words.js";

export const COLUMNS = [
  { name: "state", label: "State" },
  { name: "name", label: "Job" },
  { name: "pool", label: "Pool" },
  { name: "why", label: "Why" },
  { name: "since", label: "For" },
  { name: "offered", label: "Age" },
];

/** `{element, link, show(row)}` for a `VirtualList`, or for a short list. */
export function jobLine() {
  const word = h("span");
  const badge = h("span.badge", {}, word);
  const link = h("a.line-link");
  const origin = h("span.origin");
  const pool = h("span.c-pool", { role: "gridcell" });
  const why = h("span.c-why", { role: "gridcell" });
  const since = h("span.c-since", { role: "gridcell" });
  const offered = h("span.c-offered", { role: "gridcell" });
  const element = h("div.line", { role: "row" },
    h("span.c-state", { role: "gridcell" }, badge),
    h("span.c-name", { role: "gridcell" }, link, origin), pool, why, since, offered);
  let shownTone = "";
  return {
    element,
    link,
    show(row) {
      const tone = toneOf(row);
      if (tone !== shownTone) {
        shownTone = tone;
        badge.dataset.tone = tone;
        badge.querySelector("svg")?.remove();
        badge.prepend(icon(tone));
      }
      setText(word, wordOf(row));
      setText(link, plain(row.name));
      const href = `#/jobs/${encodeURIComponent(row.id)}`;
      if (link.getAttribute("href") !== href) link.setAttribute("href", href);
      const place = plain(row.pipeline || row.source || "");
      setText(origin, row.attempt > 1 ? `${place}, attempt ${row.attempt}` : place);
      setText(pool, row.pool);
      const reason = plain(whyOf(row));
      setText(why, reason);
      if (why.title !== reason) why.title = reason;
      setText(since, row.phase === "finished" ? between(row.offered_at, row.finished_at) : age(row.since ?? row.offered_at));
      setText(offered, age(row.offered_at));
      offered.title = moment(row.offered_at);
    },
  };
}
