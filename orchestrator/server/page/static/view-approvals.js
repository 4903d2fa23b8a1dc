// What people signed, and what waits for a person.

import { ask } from "/page/api.js";
import { fillFrom, h, icon, setText } from "/page/dom.js";
import { plain } from "/page/format.js";
import { chips, copier, empty, table, time, trouble } from "/page/parts.js";
import { words } from "/page/words.js";

const POLL_MS = 15_000;
const MOST = 200;

export function approvalsView({ live, session, params, setParams }) {
  const stop = new AbortController();
  const place = h("div", {}, empty("Loading…"));
  const filter = h("div");
  const lead = h("p.lead");
  const chosen = new Set(params.get("only") === "waiting" ? ["waiting"] : []);
  let approvals = [];

  function toggle(value, on) {
    chosen.clear();
    if (on) chosen.add(value);
    setParams(new URLSearchParams(on ? { only: value } : {}));
    draw();
  }

  function draw() {
    const waiting = approvals.filter(needsPerson);
    const shown = chosen.has("waiting") ? waiting : approvals;
    fillFrom(filter, [[...chosen], waiting.length], () => (approvals.length ? chips("Filter", [["waiting", "Waits for a person", "waiting", waiting.length]], chosen, toggle) : []));
    fillFrom(place, [shown, approvals.length], () => {
      if (!approvals.length) return empty("Nobody has signed anything yet.", "orchestrator approvals request makes a statement to sign.");
      return shown.length ? list(shown) : empty("Nothing waits for a person.");
    });
  }

  async function load() {
    try {
      ({ approvals } = await ask(`/v1/approvals?limit=${MOST}`, { signal: stop.signal }));
      draw();
    } catch (error) {
      if (stop.signal.aborted) return;
      fillFrom(place, [error.reason, error.message], () => refused(error, session));
    }
  }

  function update() {
    const number = live.overview?.approvals_waiting;
    setText(lead, number ? `${number} ${number === 1 ? "waits" : "wait"} for a person.` : "What people signed: approvals, exceptions, revocations and reviews.");
  }

  const timer = setInterval(() => { if (!document.hidden) load(); }, POLL_MS);
  load();
  return {
    title: "Approvals", update,
    element: h("div.view", {}, h("div.view-head", {}, h("h1", {}, "Approvals"), lead), filter, place),
    leave: () => { stop.abort(); clearInterval(timer); },
  };
}

const UNSIGNED = new Set(["exception_approvers_missing", "exception_requester_unsigned"]);
const needsReview = (one) => one.type === "exception" && one.uses > 0 && !one.reviewed;
/** What the daemon counts as waiting. */
const needsPerson = (one) => needsReview(one) || (one.type === "exception" && UNSIGNED.has(one.state));

function refused(error, session) {
  if (error.status === 404) return empty("Approvals are not set up here.", "approvals.approvers in the settings names who may sign.");
  if (error.status === 401 || error.status === 403) {
    return empty(session.signed_in ? "This needs an operator." : "Sign in to see what people signed.", session.signed_in ? "" : "Names of people are not shown to everybody.");
  }
  return trouble(error);
}

const list = (approvals) => h("section.card", {}, table("Approvals", ["State", "Kind", "For", "Signed by", "Ends", "Uses", "Id"], approvals.map((one) => {
  const tone = one.state === "counts" ? "success" : needsPerson(one) ? "waiting" : "cancellation";
  return [
    [h("span.badge", { data: { tone } }, icon(tone), h("span", {}, words(one.state))), needsReview(one) ? h("p.small", {}, h("strong", {}, "Review it")) : null],
    [words(one.kind || one.type), one.kind && one.type !== one.kind ? h("p.small.muted", {}, one.type) : null],
    plain(one.environment) || h("span.muted", {}, "–"), one.signers.map(plain).join(", ") || "the operator",
    one.expires_at ? time(one.expires_at) : h("span.muted", {}, "–"), one.uses,
    [h("code.digest", { title: one.id }, one.id.replace(/^sha256:/, "").slice(0, 12)), copier(one.id, "the id")]];
})));
