// What was decided, issued, reached and signed, as tables of a job's page.

import { h, icon } from "/page/dom.js";
import { clock, count, duration, moment, plain, size } from "/page/format.js";
import { digest, table } from "/page/parts.js";
import { words } from "/page/words.js";

const MOST = 100;

/** A verdict: word, picture, colour. */
export const verdict = (allowed, text) => h("span.badge", { data: { tone: allowed ? "success" : "denied" } }, icon(allowed ? "success" : "denied"), h("span", {}, text));

const reasonList = (reasons) => (reasons.length ? h("ul.plain-list", {}, reasons.map((one) => h("li", {}, plain(one.message) || words(one.code), " ", h("code.quiet-code", {}, plain(one.code))))) : "");

export const decisions = (job) => table("Decisions", ["Verdict", "About", "Reasons", "Policy"], job.decisions.slice(0, MOST).map((one) => [
  verdict(one.verdict === "allow", one.verdict === "allow" ? "Allowed" : { deny: "Denied", undefined: "No rule", error: "Policy failed" }[one.verdict] ?? one.verdict),
  one.audience ? ["Token for ", h("code", {}, plain(one.audience))] : one.stage === "admission" ? "Admission" : words(one.stage),
  [reasonList(one.reasons ?? []), one.observed?.length ? h("p.small.muted", {}, "Only watched: ", one.observed.map((r) => r.code).join(", ")) : null,
    one.waivers?.length ? h("p.small.muted", {}, "Set aside by an exception: ", one.waivers.flatMap((w) => w.codes).join(", ")) : null,
    !one.reasons?.length && !one.observed?.length ? h("span.muted", {}, "–") : null],
  [one.bundle_digest ? digest(one.bundle_digest) : h("span.muted", {}, plain(one.engine)), h("p.small.muted.number", {}, duration(one.duration_ns / 1e6))],
]));

const seconds = (unix) => (unix ? new Date(unix * 1000).toISOString() : "");

/** What became of a token, in words: the job's end refuses ours at once; others live until they expire or are revoked. */
function fate(token, job, now) {
  if (token.not_made) return ["Never made", "cancellation"];
  if (token.revoked_at) return [`Revoked ${clock(token.revoked_at)}`, "teardown"];
  if (token.kind === "id_token" && job.ended_at) return ["Refused since the job's end", "teardown"];
  if (token.expires_at * 1000 < now) return [`Expired ${clock(seconds(token.expires_at))}`, "teardown"];
  return [`Good until ${clock(seconds(token.expires_at))}`, "running"];
}

export const tokens = (job, now) => table("Tokens", ["Audience", "Kind", "Issued", "Fate", "Session at the target"], job.tokens.slice(0, MOST).map((one) => {
  const [text, tone] = fate(one, job, now);
  return [
    [h("code", {}, plain(one.audience)), one.role ? h("p.small.muted", {}, `role ${plain(one.role)}`) : null],
    words(one.kind), h("time", { dateTime: seconds(one.issued_at), title: moment(seconds(one.issued_at)) }, clock(seconds(one.issued_at))),
    h("span.badge", { data: { tone } }, icon("token"), h("span", {}, text)),
    one.session_expires_at ? `until ${clock(seconds(one.session_expires_at))} at the latest` : h("span.muted", {}, "not known"),
  ];
}));

export const refusals = (job) => table("Tokens refused", ["Audience", "Reason", "Detail"], job.token_refusals.slice(0, MOST).map((one) => [
  h("code", {}, plain(one.audience)), h("span.badge", { data: { tone: "denied" } }, icon("denied"), h("span", {}, words(one.reason))), plain(one.detail || one.rule || "")]));

export const egress = (job) => table("Egress", ["Verdict", "Host", "Rule or reason", "Up", "Down", "Took"], job.egress.slice(-MOST).reverse().map((one) => [
  [one.canary ? h("span.badge", { data: { tone: "decision" } }, icon("decision"), h("span", {}, "Proof: refused")) : verdict(one.allowed, one.allowed ? "Let out" : "Refused"),
    one.connections > 1 ? h("span.small.muted", {}, ` ×${one.connections}`) : null],
  h("code", {}, `${plain(one.host)}:${one.port}`), one.allowed ? plain(one.rule) : words(plain(one.reason)), size(one.bytes_up), size(one.bytes_down), duration(one.duration_ns / 1e6)]));

export const artifacts = (job) => table("Artifacts", ["Name", "Digest", "Size", "Signed"], job.artifacts.slice(0, MOST).map((one) => [
  plain(one.name), digest(one.digest), one.size_bytes ? size(one.size_bytes) : h("span.muted", {}, "–"),
  job.provenance.some((signed) => signed.digests.includes(one.digest)) ? h("span.badge", { data: { tone: "success" } }, icon("receipt"), h("span", {}, "Provenance")) : h("span.muted", {}, job.phase === "finished" ? "no" : "at the job's end")]));

/** How many, for a title. */
export const told = (number, one) => h("span.muted.small", {}, count(number, one));
