// Who looks: nobody, a reader or an operator. The daemon decides; the page only shows what it may do.

import { ask } from "/page/api.js";
import { fill, h } from "/page/dom.js";
import { plain } from "/page/format.js";

/** `{signed_in, name, roles, may_read, may_operate, sign_in, anonymous}` of the daemon. */
export const loadSession = () => ask("/v1/session");

const REFUSED = "#signin-refused=";
const REFUSALS = {
  sign_in_no_role: ["You are signed in there, but have no role here.", "Ask whoever runs the daemon for one."],
  sign_in_denied: ["The sign-in was not finished at the provider.", "Try again, or with another account."],
  sign_in_insecure: ["Nobody can sign in over plain http from another machine.", "Use the page's https address."],
  sign_in_unknown: ["This sign-in was begun elsewhere, or too long ago.", "Try again from this page."],
};

/** Whether the address tells of a sign-in: the code of a link, or what came of one at a provider. */
export const tellsOfSignIn = () => location.hash.startsWith("#code=") || location.hash.startsWith(REFUSED);

function refusal() {
  const reason = location.hash.slice(REFUSED.length).replace(/[^a-z_]/g, "").slice(0, 64);
  const [message, fix] = REFUSALS[reason] ?? [`The sign-in did not succeed: ${reason.replaceAll("_", " ")}.`, "Try again; whoever runs the daemon finds the cause in its log."];
  return Object.assign(new Error(message), { reason, fix });
}

/** Takes what the address tells of a sign-in out of it, and signs in by its code; returns a problem, or null. */
export async function takeSignIn() {
  if (!tellsOfSignIn()) return null;
  if (location.hash.startsWith(REFUSED)) {
    const problem = refusal();
    history.replaceState(null, "", "#/");
    return problem;
  }
  const code = location.hash.slice("#code=".length);
  history.replaceState(null, "", "#/");
  try {
    await ask("/v1/session/code", { method: "POST", body: { code } });
    return null;
  } catch (error) {
    return error;
  }
}

export async function signOut() {
  await ask("/v1/session/end", { method: "POST" });
  location.reload();
}

const roleWord = (session) =>
  session.may_operate ? "operator" : (session.roles?.at(-1) ?? (session.may_read ? "viewer" : "no access"));

/** The corner that says who is signed in, and what may be done about it. */
export function showSession(place, session, fail) {
  const ways = session.sign_in ?? [];
  if (session.signed_in) {
    fill(place, h("span.who", {}, h("strong", {}, plain(session.name)), h("span.muted", {}, roleWord(session))),
      h("button.quiet", { type: "button", on: { click: () => signOut().catch(fail) } }, "Sign out"));
  } else {
    fill(place, session.may_read ? h("span.who.muted", { title: "Nobody is signed in: nothing can be changed here." }, "Read-only") : null,
      ways.map((way) => h("a.button", { href: way.url }, plain(way.label))));
  }
}

/** Whether two looks at it show the same person with the same rights. */
export const sameSession = (one, other) =>
  ["signed_in", "name", "may_read", "may_read_logs", "may_operate"].every((field) => one[field] === other[field]);

/** What somebody is told whose session is over while the page is open, and their way back. */
export function overView(session) {
  const ways = session.sign_in ?? [];
  return [h("strong", {}, "You are signed out."),
    h("span", {}, session.may_read ? "Your session is over; what is shown is what everybody may see." : "Your session is over, so nothing new is shown."),
    ways.map((way) => h("a.button", { href: way.url }, plain(way.label))),
    ways.length ? null : h("span", {}, "On the daemon's machine, ", h("code", {}, "orchestrator page"), " prints a link that signs you in.")];
}

/** The whole page for who may not read. */
export function signInView(session, problem) {
  const ways = session.sign_in ?? [];
  return h("section.gate", { "aria-labelledby": "gate-title" },
    h("h1", { id: "gate-title" }, session.signed_in ? "Nothing to see with this account" : "Sign in"),
    h("p", {}, session.signed_in
      ? `${plain(session.name)} has no role here. Whoever runs the daemon can give one.`
      : "Jobs, decisions and tokens are shown to people who may see them."),
    problem ? h("p.trouble-line", { role: "alert" }, plain(problem.message), problem.fix ? ` ${plain(problem.fix)}` : "") : null,
    ways.length
      ? h("div.gate-ways", {}, ways.map((way) => h("a.button.main", { href: way.url }, plain(way.label))))
      : null,
    h("p.hint", {}, "On the daemon's machine, ", h("code", {}, "orchestrator page"), " prints a link that signs you in."));
}
