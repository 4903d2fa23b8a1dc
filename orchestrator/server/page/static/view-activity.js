// What was decided, issued, reached and signed, as it happens.

import { ask } from "/page/api.js";
import { tell } from "/page/activity.js";
import { fill, fillFrom, h, icon, setText } from "/page/dom.js";
import { count } from "/page/format.js";
import { chips, empty, jobLink, time, trouble } from "/page/parts.js";
import { KINDS } from "/page/words.js";

const PAGE = 100;
const MOST_KEPT = 600;

export function activityView({ live, params, setParams }) {
  const stop = new AbortController();
  const asked = params.get("kind") ?? "";
  const chosen = new Set(asked in KINDS ? [asked] : []);
  const kinds = h("div");
  const list = h("ol.stream", { "aria-label": "Activity, newest first" });
  const foot = h("div.stream-foot");
  const gap = h("div");
  const fresh = h("button.button.fresh", { type: "button", hidden: true, on: { click: showFresh } });
  let items = [];
  let pending = [];
  let next = null;
  let omitted = 0;
  let run = 0;

  const kind = () => [...chosen][0] ?? "";

  function toggle(value, on) {
    chosen.clear();
    if (on) chosen.add(value);
    setParams(new URLSearchParams(kind() ? { kind: kind() } : {}));
    showKinds();
    load().catch(fail);
  }

  function showKinds() {
    fill(kinds, chips("Kinds", Object.entries(KINDS).map(([value, label]) => [value, label, value]), chosen, toggle));
  }

  async function load(before = null) {
    const mine = ++run;
    if (before === null) {
      items = [];
      pending = [];
      omitted = 0;
      fill(foot, empty("Loading…"));
    }
    const query = new URLSearchParams({ limit: String(PAGE), ...(kind() ? { kind: kind() } : {}), ...(before ? { before: String(before) } : {}) });
    const page = await ask(`/v1/activity?${query}`, { signal: stop.signal });
    if (mine !== run) return;
    items = unique([...items, ...page.items]);
    next = page.next ?? null;
    draw();
  }

  function fail(error) {
    if (!stop.signal.aborted) fill(foot, trouble(error), h("button.button", { type: "button", on: { click: () => load().catch(fail) } }, "Try again"));
  }

  function draw() {
    fill(list, items.map(line));
    const more = next !== null && items.length < MOST_KEPT
      ? h("button.button", { type: "button", data: { key: "more" }, on: { click: () => load(next).catch(fail) } }, "Show older")
      : null;
    const kept = items.length >= MOST_KEPT ? h("p.hint", {}, "Older ones are on the command line: ", h("code", {}, "orchestrator activity")) : null;
    fillFrom(gap, omitted, () => (omitted ? h("p.hint", {}, `${count(omitted, "line")} came too fast to be shown as they happened. `,
      h("button.quiet", { type: "button", on: { click: () => load().catch(fail) } }, "Read them")) : []));
    fill(foot, items.length ? [more, kept] : empty("Nothing yet.", "Decisions, tokens, connections and receipts of jobs appear here as they happen."));
  }

  function arrived(event) {
    const wanted = event.detail.items.filter((one) => !kind() || one.kind === kind());
    omitted += event.detail.omitted ?? 0;
    if (!wanted.length) return;
    pending = unique([...wanted, ...pending]).slice(0, MOST_KEPT);
    // Lines do not move away from under whoever reads further down or has the keyboard there.
    if (scrollY < 200 && !list.contains(document.activeElement)) schedule();
    else {
      setText(fresh, `${count(pending.length, "new line")}: show`);
      fresh.hidden = false;
    }
  }

  let timer = 0;
  function schedule() {
    timer ||= setTimeout(() => { timer = 0; showFresh(); }, 500);
  }

  function showFresh() {
    items = unique([...pending, ...items]).slice(0, MOST_KEPT);
    pending = [];
    fresh.hidden = true;
    draw();
  }

  const on = (event) => arrived(event);
  live.addEventListener("activity", on);
  live.wantActivity(true);
  showKinds();
  load().catch(fail);
  return {
    title: "Activity",
    element: h("div.view", {}, h("div.view-head", {}, h("h1", {}, "Activity"), h("p.lead", {}, "Decisions, tokens, connections, receipts and alarms of all jobs.")), kinds, fresh, gap, list, foot),
    leave: () => {
      stop.abort();
      clearTimeout(timer);
      live.removeEventListener("activity", on);
      live.wantActivity(false);
    },
  };
}

/** Newest first, each once. */
function unique(items) {
  const seen = new Map(items.map((one) => [one.seq, one]));
  return [...seen.values()].sort((a, b) => b.seq - a.seq);
}

function line(item) {
  const { tone, verb, text, more } = tell(item);
  const row = h("li", {}, h("span.stream-time", {}, time(item.at)),
    h("span.badge", { data: { tone } }, icon(item.kind), h("span", {}, verb)),
    h("div.stream-text", {}, h("p", {}, text), more.length ? h("p.small.muted", {}, more.join(" · ")) : null),
    h("span.stream-job", {}, item.job_id ? jobLink(item.job_id, item.job_name) : ""));
  return row;
}

