// Sources: whether each platform is heard, what it has, and what fails.

import { ask } from "/page/api.js";
import { fillFrom, h, icon } from "/page/dom.js";
import { plain } from "/page/format.js";
import { empty, facts, table, time, trouble } from "/page/parts.js";
import { words } from "/page/words.js";

const POLL_MS = 10_000;

export function sourcesView() {
  const stop = new AbortController();
  const place = h("div", {}, empty("Loading…"));
  async function load() {
    try {
      const { sources } = await ask("/v1/sources", { signal: stop.signal });
      fillFrom(place, sources, () => (sources.length ? sources.map(sourceCard)
        : empty("Jobs come by dispatch alone.", "No platform is watched. Connect GitHub under github: in the settings, or dispatch jobs with orchestrator submit.")));
    } catch (error) {
      if (!stop.signal.aborted) fillFrom(place, error.message, () => trouble(error));
    }
  }
  const timer = setInterval(() => { if (!document.hidden) load(); }, POLL_MS);
  load();
  return {
    title: "Sources",
    element: h("div.view", {}, h("div.view-head", {}, h("h1", {}, "Sources"), h("p.lead", {}, "Platforms whose queues are watched.")), place),
    leave: () => { stop.abort(); clearInterval(timer); },
  };
}

const failing = (failure) => h("ul.needs", {}, h("li", {}, icon("error"), h("div", {}, h("p", {}, h("strong", {}, `${words(failure.reason)}: `), plain(failure.message)),
  failure.fix ? h("p.hint", {}, `Fix: ${plain(failure.fix)}`) : null, failure.since ? h("p.small.muted", {}, "since ", time(failure.since)) : null)));

function sourceCard(source) {
  const id = `source-${source.name}`;
  const limits = Object.entries(source.rate_limits);
  return h("section.card", { "aria-labelledby": id },
    h("div.card-head", {}, h("h2", { id }, source.name), h("span.tag", {}, words(source.kind)), h("span.muted.small", {}, plain(source.url))),
    source.failure ? failing(source.failure) : null,
    source.sets.filter((one) => one.failure).map((one) => h("div", {}, h("p.small", {}, h("strong", {}, plain(one.name))), failing(one.failure))),
    source.sets.length ? table(`Runner sets of ${source.name}`, ["Set", "State", "Pool", "Jobs", "Runners", "Heard"], source.sets.map(setCells)) : empty("It has no runner set yet."),
    facts([["Calls for each job", source.calls_per_job ? source.calls_per_job.toFixed(1) : null],
      ["Deliveries waiting", source.deliveries_waiting || null], ["Deliveries asked for again", source.deliveries_again || null],
      ...limits.map(([name, limit]) => [`Rate limit ${words(name)}`, [`${limit.remaining} of ${limit.limit} left`, limit.resets_at ? [", until ", time(limit.resets_at)] : null]])]));
}

function setCells(set) {
  const tone = set.failure || set.stage === "conflict" ? "error" : set.stage === "listening" ? "success" : "waiting";
  const jobs = set.jobs ? `${set.jobs.available} available, ${set.jobs.assigned} assigned, ${set.jobs.running} running` : set.queued === null ? "" : `${set.queued} queued`;
  const slots = Object.entries(set.slots).filter(([, number]) => number).map(([name, number]) => `${number} ${words(name)}`).join(", ");
  return [
    [h("strong", {}, plain(set.name)), set.labels_lacking.length ? h("p.small.muted", {}, `labels not taken over: ${set.labels_lacking.map(plain).join(", ")}`) : null],
    [h("span.badge", { data: { tone } }, icon(tone), h("span", {}, words(set.stage))), set.waiting_for ? h("p.small.muted", {}, `held back: ${words(set.waiting_for)}`) : null],
    set.pool, jobs, slots || h("span.muted", {}, "none"), set.heard_at ? time(set.heard_at) : h("span.muted", {}, "never")];
}
