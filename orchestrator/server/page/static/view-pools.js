// Pools: how full, what they let out, and which guards they lack.

import { fillFrom, h, icon, setText } from "/page/dom.js";
import { age, count, duration, plain } from "/page/format.js";
import { empty, facts, meter } from "/page/parts.js";
import { steady, words } from "/page/words.js";

const MOST_RULES = 12;

export function poolsView({ live }) {
  const place = h("div");
  function update() {
    const pools = live.overview?.pools;
    fillFrom(place, pools ? steady(pools) : null, () => {
      if (!pools) return empty("Loading…");
      return pools.length ? h("div.cards", {}, pools.map(poolCard)) : empty("No pool is configured.", "Add one under pools: in the settings.");
    });
  }
  const tick = () => {
    for (const one of place.querySelectorAll("[data-since]")) setText(one, age(one.dataset.since));
  };
  return { title: "Pools", tick, element: h("div.view", {}, h("div.view-head", {}, h("h1", {}, "Pools"), h("p.lead", {}, "Where runners are made, and what they may reach.")), place), update };
}

function poolCard(pool) {
  const id = `pool-${pool.name}`;
  const free = Math.max(0, pool.capacity - pool.in_use);
  return h("section.card", { "aria-labelledby": id },
    h("div.card-head", {}, h("h2", { id }, pool.name), h("span.tag", { data: { tier: pool.trust_tier } }, words(pool.trust_tier)), h("span.tag", {}, pool.backend)),
    h("div.pool-figures", {}, h("p", {}, h("span.big", {}, pool.in_use), h("span.muted", {}, ` of ${pool.capacity} in use`)),
      h("p.muted.small", {}, free ? `${free} free` : "full")),
    meter(pool.in_use, pool.capacity, `Pool ${pool.name}`),
    h("p.small", {}, pool.waiting
      ? [h("a", { href: `#/jobs?state=queued,waiting&pool=${encodeURIComponent(pool.name)}` }, `${count(pool.waiting, "job")} waiting`),
        pool.oldest_wait_since ? [", the longest for ", h("span.number", { data: { since: pool.oldest_wait_since } }, age(pool.oldest_wait_since))] : null]
      : h("span.muted", {}, "No job waits for it.")),
    pool.guards_missing.length
      ? h("ul.needs", { "aria-label": `What pool ${pool.name} lacks` }, pool.guards_missing.map((guard) => h("li", {}, icon("denied"), h("span", {}, h("strong", {}, "Lacks: "), plain(guard)))))
      : h("p.small.fine", {}, icon("success"), pool.require_egress_proof ? "Guards in place; each runner proves that its way out is closed." : "Guards in place; no egress proof is demanded."),
    facts([["Isolation", pool.isolation], ["Base", pool.base ? h("code", {}, plain(pool.base)) : null], ["Longest job", duration(pool.max_job_seconds * 1000)],
      ["May reach", pool.egress.length ? h("ul.plain-list", {}, pool.egress.slice(0, MOST_RULES).map((rule) => h("li", {}, h("code", {}, plain(rule)))),
        pool.egress.length > MOST_RULES ? h("li.muted", {}, `and ${pool.egress.length - MOST_RULES} more`) : null) : "nothing"]]));
}
