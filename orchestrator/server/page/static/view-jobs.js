// All jobs: a long list, filters and a search that are part of the address.

import { fillFrom, h, setText } from "/page/dom.js";
import { count } from "/page/format.js";
import { COLUMNS, jobLine } from "/page/job-line.js";
import { VirtualList } from "/page/list.js";
import { chips, empty } from "/page/parts.js";
import { PHASE_WORDS, PHASES, RESULT_WORDS, RESULTS } from "/page/words.js";

const STATES = [...PHASES, ...RESULTS];

export function jobsView({ live, params, setParams }) {
  const chosen = new Set((params.get("state") ?? "").split(",").filter((one) => STATES.includes(one)));
  const list = new VirtualList({ label: "Jobs", columns: COLUMNS, make: jobLine });
  const total = h("p.list-total", { role: "status" });
  const none = h("div");
  const states = h("div");
  const pools = h("select", { id: "pool", on: { change: changed } });
  const search = h("input", {
    id: "find", type: "search", value: params.get("q") ?? "", placeholder: "Name, pipeline, id, reason", maxLength: 200,
    autocomplete: "off", spellcheck: false, on: { input: changed },
  });
  let sorted = [];

  function changed() {
    const next = new URLSearchParams();
    if (search.value.trim()) next.set("q", search.value.trim());
    if (chosen.size) next.set("state", [...chosen].join(","));
    if (pools.value) next.set("pool", pools.value);
    setParams(next);
    list.scroller.scrollTop = 0;
    filter();
  }

  function toggle(state, on) {
    if (on) chosen.add(state);
    else chosen.delete(state);
    changed();
  }

  function filter() {
    const needle = search.value.trim().toLowerCase();
    const pool = pools.value;
    const counts = {};
    const found = [];
    for (const row of sorted) {
      if (pool && row.pool !== pool) continue;
      if (needle && !matches(row, needle)) continue;
      const state = stateOf(row);
      counts[state] = (counts[state] ?? 0) + 1;
      if (!chosen.size || chosen.has(state)) found.push(row);
    }
    list.show(found);
    const narrowed = chosen.size || pool || needle;
    setText(total, found.length === sorted.length || !narrowed ? count(found.length, "job") : `${found.length.toLocaleString()} of ${count(sorted.length, "job")}`);
    fillFrom(states, [counts, [...chosen]], () => chips("States", choices(counts, chosen), chosen, toggle));
    list.element.hidden = !found.length;
    fillFrom(none, [found.length > 0, Boolean(narrowed), live.loaded], () => found.length ? [] : nothing(live.loaded, narrowed));
  }

  function update() {
    sorted = order([...live.rows.values()]);
    const names = [...new Set([...(live.overview?.pools ?? []).map((one) => one.name), params.get("pool") ?? ""])].filter(Boolean).sort();
    const before = pools.value || (params.get("pool") ?? "");
    fillFrom(pools, names, () => [h("option", { value: "" }, "All pools"), names.map((name) => h("option", { value: name, selected: name === before }, name))]);
    filter();
  }

  const element = h("div.view.view-jobs", {},
    h("div.view-head", {}, h("h1", {}, "Jobs"), total),
    h("div.filters", {},
      h("div.field", {}, h("label.hidden-text", { for: "find" }, "Search"), search),
      h("div.field", {}, h("label.hidden-text", { for: "pool" }, "Pool"), pools), states),
    none, list.element);
  return { title: "Jobs", element, update, tick: () => list.tick(), leave: () => list.leave() };
}

const stateOf = (row) => (row.phase === "finished" ? row.result : row.phase);

const matches = (row, needle) =>
  [row.name, row.pipeline, row.id, row.source, row.why, row.reason, row.wait?.reason, row.runner].some((text) =>
    typeof text === "string" && text.toLowerCase().includes(needle));

/** Only states that exist are offered, and those chosen. */
const choices = (counts, chosen) =>
  STATES.filter((state) => counts[state] || chosen.has(state)).map((state) =>
    [state, PHASE_WORDS[state] ?? RESULT_WORDS[state], state, (counts[state] ?? 0).toLocaleString()]);

/** Unfinished first, newest first. */
function order(rows) {
  const key = (row) => row.finished_at ?? row.offered_at ?? "";
  const rank = (row) => (row.phase === "finished" ? 1 : 0);
  return rows.sort((a, b) => rank(a) - rank(b) || (key(a) < key(b) ? 1 : key(a) > key(b) ? -1 : 0));
}

function nothing(loaded, narrowed) {
  if (!loaded) return empty("Loading…");
  return narrowed
    ? empty("No job fits.", "Take a filter away, or search for something else. Old jobs are on the command line: orchestrator jobs.")
    : empty("No job yet.", "Dispatch one with orchestrator submit, or connect a source.");
}
