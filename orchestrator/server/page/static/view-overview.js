// What waits and why, what runs, and whether anything needs a person.

import { fillFrom, h, icon, setText } from "/page/dom.js";
import { age, count, plain } from "/page/format.js";
import { card, empty, jobLink, meter, time } from "/page/parts.js";
import { PHASES, PHASE_MEANING, PHASE_WORDS, RESULTS, RESULT_WORDS, steady, WAIT_WORDS, whyOf, words } from "/page/words.js";

const MOST_RUNNING = 12;
const MOST_GROUPS = 8;

export function overviewView({ live }) {
  const flow = h("ol.flow", { "aria-label": "Jobs by phase" });
  const ended = h("div.ended");
  const attention = h("div");
  const waiting = h("div");
  const running = h("div");
  const pools = h("div");
  const alarms = h("div");
  const lead = h("p.lead", { role: "status" });

  function update() {
    const overview = live.overview;
    const rows = [...live.rows.values()];
    const counts = overview?.counts ?? {};
    setText(lead, live.loaded ? headline(counts) : "Loading…");
    fillFrom(flow, counts, () => PHASES.map((phase) => step(phase, counts[phase] ?? 0)));
    fillFrom(ended, overview?.finished_last_hour ?? {}, () => lastHour(overview?.finished_last_hour ?? {}));
    fillFrom(attention, [overview?.checks, overview?.pools?.map((one) => one.guards_missing)], () => needs(overview));
    const groups = grouped(rows);
    fillFrom(waiting, [groups, live.loaded], () => (groups.length ? reasons(groups) : nothing(live, "Nothing waits.")));
    const busy = rows.filter((row) => row.phase === "running" || row.phase === "binding" || row.phase === "provisioning" || row.phase === "teardown")
      .sort((a, b) => (a.since < b.since ? 1 : -1));
    fillFrom(running, [busy.slice(0, MOST_RUNNING), busy.length, live.loaded], () => (busy.length ? active(busy) : nothing(live, "Nothing runs.")));
    fillFrom(pools, steady(overview?.pools ?? []), () => poolLines(overview?.pools ?? []));
    fillFrom(alarms, overview?.alarms ?? [], () => alarmLines(overview?.alarms ?? []));
    tick();
  }

  function tick() {
    for (const one of element.querySelectorAll("[data-since]")) setText(one, age(one.dataset.since));
  }

  const element = h("div.view", {},
    h("div.view-head", {}, h("h1", {}, "Overview"), lead),
    flow, ended, attention,
    h("div.columns", {},
      h("div.column", {},
        card("Waiting, and why", waiting, { more: h("a.more", { href: "#/jobs?state=queued,waiting" }, "All waiting") }),
        card("Now", running, { more: h("a.more", { href: "#/jobs?state=provisioning,binding,running,teardown" }, "All active") })),
      h("div.column.side", {},
        card("Pools", pools, { more: h("a.more", { href: "#/pools" }, "Details") }),
        card("Alarms", alarms, { more: h("a.more", { href: "#/activity?kind=alarm" }, "All alarms") }))));
  return { title: "Overview", element, update, tick };
}

function headline(counts) {
  const pending = (counts.queued ?? 0) + (counts.waiting ?? 0);
  const busy = PHASES.slice(2).reduce((sum, phase) => sum + (counts[phase] ?? 0), 0);
  if (!pending && !busy) return "All quiet: no job is queued or runs.";
  return `${count(pending, "job")} ${pending === 1 ? "waits" : "wait"}, ${count(busy, "job")} under way.`;
}

const step = (phase, number) =>
  h("li", {}, h("a.flow-step", {
    href: `#/jobs?state=${phase}`, title: PHASE_MEANING[phase], data: { tone: phase, none: String(!number), key: `flow-${phase}` },
  }, h("span.flow-number", {}, number.toLocaleString()), h("span.flow-word", {}, icon(phase), PHASE_WORDS[phase])));

/** The last hour's ends, as one bar and in words. */
function lastHour(finished) {
  const parts = RESULTS.map((name) => [name, finished[name] ?? 0]).filter(([, number]) => number);
  const total = parts.reduce((sum, [, number]) => sum + number, 0);
  if (!total) return h("p.muted.small", {}, "No job ended in the last hour.");
  const bar = h("div.stack", { "aria-hidden": "true" }, parts.map(([name, number]) => {
    const part = h("span", { data: { tone: name } });
    part.style.setProperty("flex-grow", String(number));
    return part;
  }));
  return [h("p.small", {}, h("span.muted", {}, `Last hour: ${count(total, "job")} ended`)), bar,
    h("ul.legend", { "aria-label": "Results of the last hour" }, parts.map(([name, number]) => h("li", { data: { tone: name } }, icon(name),
      h("a", { href: `#/jobs?state=${name}` }, `${number.toLocaleString()} ${(RESULT_WORDS[name] ?? name).toLowerCase()}`))))];
}

/** What a person must look at: checks that fail, pools without their guards. */
function needs(overview) {
  const failing = Object.entries(overview?.checks ?? {}).filter(([, told]) => told !== "ok" && told !== "draining"); // which the notice says
  const unguarded = (overview?.pools ?? []).filter((pool) => pool.guards_missing?.length);
  if (!failing.length && !unguarded.length) return [];
  return h("ul.needs", { "aria-label": "Needs attention" },
    failing.map(([name, told]) => h("li", {}, icon("error"), h("span", {}, h("strong", {}, `${words(name)}: `), plain(told)))),
    unguarded.map((pool) => h("li", {}, icon("denied"), h("span", {}, h("strong", {}, `Pool ${pool.name} lacks: `), plain(pool.guards_missing.join(", "))))));
}

/** Jobs that wait, by the reason and the pool; the longest first. */
function grouped(rows) {
  const groups = new Map();
  for (const row of rows) {
    if (row.phase !== "waiting" && row.phase !== "queued") continue;
    const reason = row.phase === "queued" ? "queued" : (row.wait?.reason ?? "waiting");
    const key = `${reason}\n${row.pool}`;
    const group = groups.get(key) ?? { reason, pool: row.pool, number: 0, oldest: row };
    group.number += 1;
    if ((row.offered_at ?? "") < (group.oldest.offered_at ?? "")) group.oldest = row;
    groups.set(key, group);
  }
  return [...groups.values()].sort((a, b) => ((a.oldest.offered_at ?? "") < (b.oldest.offered_at ?? "") ? -1 : 1));
}

function reasons(groups) {
  const rest = groups.slice(MOST_GROUPS).reduce((sum, group) => sum + group.number, 0);
  return [h("ul.reasons", {}, groups.slice(0, MOST_GROUPS).map((group) => h("li", {},
    h("a.reason-number", { href: `#/jobs?state=queued,waiting&pool=${encodeURIComponent(group.pool)}`, "aria-label": `${count(group.number, "job")} in pool ${group.pool}` },
      group.number.toLocaleString()),
    h("div.reason-text", {},
      h("p.reason-head", { data: { tone: group.reason === "queued" ? "queued" : "waiting" } }, h("strong", {}, icon(group.reason === "queued" ? "queued" : "waiting"), group.reason === "queued" ? "Policy is being asked" : (WAIT_WORDS[group.reason] ?? words(group.reason))),
        h("span.tag", {}, group.pool)),
      h("p.reason-why", {}, plain(whyOf(group.oldest))),
      h("p.small.muted", {}, "Longest: ", jobLink(group.oldest.id, group.oldest.name), ", ",
        h("span.number", { data: { since: group.oldest.offered_at } })))))),
  rest ? h("p.small.muted", {}, `and ${count(rest, "more job")}`) : null];
}

function active(rows) {
  return [h("ul.runs", {}, rows.slice(0, MOST_RUNNING).map((row) => h("li", {},
    h("span.badge", { data: { tone: row.phase } }, icon(row.phase), h("span", {}, PHASE_WORDS[row.phase])),
    h("span.run-name", {}, jobLink(row.id, row.name), h("span.origin", {}, plain(row.pipeline || row.source || ""))),
    h("span.tag", {}, row.pool),
    h("span.number.run-for", { data: { since: row.since ?? row.offered_at } })))),
  rows.length > MOST_RUNNING ? h("p.small.muted", {}, `and ${(rows.length - MOST_RUNNING).toLocaleString()} more`) : null];
}

function poolLines(pools) {
  if (!pools.length) return empty("No pool is configured.");
  return h("ul.pool-lines", {}, pools.map((pool) => h("li", {},
    h("div.pool-line-head", {}, h("a", { href: `#/jobs?pool=${encodeURIComponent(pool.name)}` }, pool.name),
      h("span.number", {}, `${pool.in_use} / ${pool.capacity}`)),
    meter(pool.in_use, pool.capacity, `Pool ${pool.name}`),
    pool.waiting ? h("p.small.muted", {}, `${count(pool.waiting, "job")} waiting`, pool.oldest_wait_since ? [", the longest for ", h("span.number", { data: { since: pool.oldest_wait_since } })] : null) : null)));
}

function alarmLines(alarms) {
  if (!alarms.length) return empty("None.");
  return h("ul.alarms", {}, alarms.slice(0, 6).map((one) => h("li", {}, h("p", {}, icon("alarm"), h("strong", {}, words(one.alarm)), " ", time(one.at)),
    h("p.small", {}, plain(one.detail)), one.job_id ? h("p.small", {}, jobLink(one.job_id, "")) : null)));
}

const nothing = (live, text) => empty(live.loaded ? text : "Loading…");

