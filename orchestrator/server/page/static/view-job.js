// One job: why it stands where it stands, its waterfall, what it was allowed, and its output.

import { ask } from "/page/api.js";
import { fill, fillFrom, h, say, setText } from "/page/dom.js";
import { age, between, now, plain } from "/page/format.js";
import { LogTail } from "/page/log-tail.js";
import { card, copier, digest, empty, facts, sentence, stateBadge, time, trouble } from "/page/parts.js";
import { artifacts, decisions, egress, refusals, told, tokens } from "/page/records.js";
import { readEvents } from "/page/sse.js";
import { Waterfall } from "/page/waterfall.js";
import { whyOf, wordOf, words } from "/page/words.js";

const RELOAD_MS = 400;
const POLL_MS = 5000;
/** The sentence on why it waits has figures that age. */
const REFRESH_MS = 15_000;

export function jobView({ id, session, live }) {
  const stop = new AbortController();
  const path = `/v1/jobs/${encodeURIComponent(id)}`;
  const head = h("div.job-head");
  const why = h("div");
  const waterfall = new Waterfall();
  const parts = Object.fromEntries(["facts", "decisions", "tokens", "egress", "artifacts", "receipt", "alarms"].map((name) => [name, h("div")]));
  const body = h("div");
  const element = h("div.view", {}, h("p.crumb", {}, h("a", { href: "#/jobs" }, "Jobs"), h("span", { "aria-hidden": "true" }, " / "), h("code", {}, id)), head, why, body);
  let job = null;
  let log = null;
  let timer = 0;
  let lastWord = "";
  let loadedAt = Date.now();

  async function load() {
    const [seen, trace, reason] = await Promise.all([
      ask(path, { signal: stop.signal }), ask(`${path}/trace`, { signal: stop.signal }),
      ask(`${path}/why`, { signal: stop.signal }).catch(() => null)]);
    job = seen;
    loadedAt = Date.now();
    if (!body.firstChild) lay();
    show(trace, reason);
  }

  function lay() {
    fill(body, card("Waterfall", waterfall.element, { more: h("span.more.trace-id", {}, "Trace ", digest(job.trace_id), copier(job.trace_id, "the trace id")) }),
      h("div.columns", {},
        h("div.column", {}, parts.alarms, logCard(), parts.decisions, parts.tokens, parts.egress, parts.artifacts),
        h("div.column.side", {}, card("About", parts.facts), parts.receipt)));
  }

  function logCard() {
    const place = h("div");
    if (job.compacted) place.append(empty("The output is not kept any longer."));
    else if (!session.may_read_logs) place.append(empty("Sign in to read the output."));
    else {
      log = new LogTail(id);
      place.append(log.element);
      log.start(job.phase === "finished" ? job.log ?? { bytes_kept: 0, bytes_dropped: 0, secrets_masked: 0 } : null);
    }
    return card("Output", place);
  }

  function show(trace, reason) {
    fillFrom(head, [job.phase, job.result, job.name, job.cancel, session.may_operate], () => headline(job, session, cancel));
    fillFrom(why, [reason, job.phase, job.message, job.wait], () => whyBox(job, reason, live.rows.get(id)));
    waterfall.show(trace);
    fillFrom(parts.facts, job, () => about(job));
    fillFrom(parts.alarms, [job.alarms, job.leftovers], () => alarms(job));
    fillFrom(parts.decisions, job.decisions, () => card("Decisions", job.decisions.length ? decisions(job) : empty("None yet: policy is asked first of all.")));
    fillFrom(parts.tokens, [job.tokens, job.token_refusals, job.phase], () => card("Tokens", tokenTables(), { more: job.tokens.length ? told(job.tokens.length, "token") : null }));
    fillFrom(parts.egress, job.egress, () => card("Egress", job.egress.length ? [egress(job), job.egress_omitted ? h("p.small.muted", {}, `and ${job.egress_omitted} older ones`) : null] : empty("No connection was tried.")));
    fillFrom(parts.artifacts, [job.artifacts, job.provenance], () => card("Artifacts", job.artifacts.length ? artifacts(job) : empty("None was reported.")));
    fillFrom(parts.receipt, [job.receipt_digest, job.phase], () => card("Receipt", receipt(job, path)));
    const word = wordOf(job);
    if (lastWord && word !== lastWord) say(`${plain(job.name)}: ${word}`);
    lastWord = word;
    document.title = `${plain(job.name)}: ${word} · Orchestrator`;
  }

  const tokenTables = () => [
    job.tokens.length ? tokens(job, now()) : empty("None was issued."), job.token_refusals.length ? refusals(job) : null];

  async function cancel() {
    await ask(`${path}?reason=${encodeURIComponent("cancelled on the page")}`, { method: "DELETE", signal: stop.signal });
    say("The cancellation is recorded.");
    soon();
  }

  function soon() {
    if (timer || stop.signal.aborted) return;
    timer = setTimeout(() => {
      timer = 0;
      load().catch(fail);
    }, RELOAD_MS);
  }

  function fail(error) {
    if (stop.signal.aborted) return;
    if (!job) fill(body, trouble(error), error.status === 404 ? h("p.hint", {}, "Old jobs are removed after journal.retention_seconds; or the id is not whole.") : null);
    else setTimeout(soon, POLL_MS);
  }

  /** Its facts as they come; where no stream is to be had, look again now and then. */
  async function follow() {
    while (!stop.signal.aborted && job?.phase !== "finished") {
      let last = "";
      try {
        await readEvents(`${path}/events?follow=true&stages=true`, { signal: stop.signal, take: (_event, _data, seq) => { last = seq || last; soon(); } });
      } catch (error) {
        if (stop.signal.aborted || error.status === 404) return;
      }
      await new Promise((resolve) => setTimeout(resolve, last ? 1000 : POLL_MS));
      soon();
    }
  }

  load().then(follow, (error) => { fail(error); if (error.status !== 404) follow(); });
  return {
    title: "Job", element,
    tick: () => {
      waterfall.tick();
      if (job && job.phase !== "finished" && Date.now() - loadedAt > REFRESH_MS) soon();
      for (const one of element.querySelectorAll("[data-since]")) setText(one, age(one.dataset.since));
    },
    leave: () => { stop.abort(); clearTimeout(timer); log?.leave(); },
  };
}

function headline(job, session, cancel) {
  const took = job.finished_at ? h("span.number", {}, between(job.offered_at, job.finished_at)) : h("span.number", { data: { since: job.offered_at } }, age(job.offered_at));
  return [h("div.job-title", {}, h("h1", {}, plain(job.name)), stateBadge(job), took),
    h("div.job-actions", {}, job.cancel && !job.ended_at ? h("span.muted", {}, "Cancellation requested") : cancelButton(job, session, cancel))];
}

/** Cancelling asks once more, in place. */
function cancelButton(job, session, cancel) {
  if (!session.may_operate || job.ended_at || job.phase === "finished") return null;
  const place = h("span.confirm");
  const first = h("button.button.danger", { type: "button", on: { click: askAgain } }, "Cancel job");
  function askAgain() {
    const yes = h("button.button.danger", { type: "button", on: { click: () => { yes.disabled = true; cancel().catch((error) => { fill(place, trouble(error), first); }); } } }, "Yes, cancel it");
    const no = h("button.button", { type: "button", on: { click: () => { fill(place, first); first.focus(); } } }, "Keep it");
    fill(place, h("span", { role: "alert" }, job.phase === "running" ? "Its work stops at once." : "It will not run."), yes, no);
    no.focus();
  }
  return fill(place, first);
}

function whyBox(job, reason, row) {
  const text = reason?.sentence || (job.result ? job.message || words(job.reason) : whyOf({ ...job, why: row?.why }));
  if (!text && !reason?.next_step) return [];
  return h("section.why", { "aria-label": "Why", data: { tone: job.phase === "finished" ? job.result : job.phase } },
    h("p.why-sentence", {}, sentence(text)),
    reason?.next_step ? h("p.why-next", {}, h("strong", {}, "Next: "), sentence(reason.next_step)) : null,
    reason?.hints?.length ? h("ul.plain-list.small.muted", {}, reason.hints.map((hint) => h("li", {}, sentence(hint)))) : null);
}

function about(job) {
  const link = platformLink(job);
  return facts([
    ["Result", job.result ? [wordOf({ ...job, phase: "finished" }), job.reason ? h("span.muted", {}, ` ${words(job.reason)}`) : null] : null],
    ["Exit code", job.exit_code],
    ["Pool", h("a", { href: `#/jobs?pool=${encodeURIComponent(job.pool)}` }, job.pool)],
    ["Source", job.source], ["Pipeline", plain(job.pipeline)], ["Attempt", job.attempt],
    ["Environment", plain(job.deployment_environment)], ["Ticket", plain(job.ticket)],
    ["Artifact", job.artifact_digest ? digest(job.artifact_digest) : null],
    ["Caller", [h("code", {}, plain(job.caller.subject)), h("p.small.muted", {}, plain(job.caller.issuer))]],
    ...Object.entries(job.caller.facts).slice(0, 24).map(([name, value]) => [words(name), plain(value)]),
    ["On the platform", link],
    ["Runner", job.runner ? h("code", {}, job.runner.name) : null],
    ["Secrets by name", job.secrets.join(", ")],
    ["Offered", time(job.offered_at)], ["Bound", job.bound_at ? time(job.bound_at) : null],
    ["Ended", job.ended_at ? time(job.ended_at) : null], ["Verified gone", job.finished_at ? time(job.finished_at) : null],
    ["Cancelled by", job.cancel ? `${plain(job.cancel.by)}${job.cancel.reason ? `: ${plain(job.cancel.reason)}` : ""}` : null],
  ]);
}

const platformLink = (job) => {
  const state = job.platform_job;
  return state ? `${words(state.state)}${state.proof ? `, named by ${state.proof}` : ""}${state.result ? `, ${words(state.result)}` : ""}` : null;
};

function alarms(job) {
  const lines = [...job.alarms.map((one) => [words(one.alarm), one.detail]), ...job.leftovers.map((one) => ["left behind", one])];
  if (!lines.length) return [];
  return card("Alarms", h("ul.needs", {}, lines.map(([name, detail]) => h("li", {}, h("span", {}, h("strong", {}, `${name}: `), plain(detail))))));
}

function receipt(job, path) {
  if (job.receipt_digest) {
    return h("div.apart", {}, facts([["Statement", digest(job.receipt_digest)]]),
      h("p.small", {}, "Signed by the daemon: what the job had, and how each of it ended. "),
      h("p", {}, h("button.button", { type: "button", on: { click: (event) => save(event.target, `${path}/receipt`, `${job.id}.receipt.json`) } }, "Download")),
      h("p.hint", {}, h("code", {}, `orchestrator receipt ${job.id}`), " fetches and checks it."));
  }
  return empty(job.phase === "finished" ? "It was finished without a receipt." : "Made and signed at the job's end.");
}

/** Saves an answer as a file: a link would ask for it without this page's seal. */
async function save(button, path, name) {
  try {
    const url = URL.createObjectURL(new Blob([JSON.stringify(await ask(path))], { type: "application/json" }));
    h("a", { href: url, download: name }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    button.after(trouble(error));
  }
}
