// Who looks: nobody, a reader or an operator. The daemon decides; the page only shows what it may do.

import { ask, useCsrfHeader } from "/page/api.js";
import { fill, h } from "/page/dom.js";
import { plain } from "/page/format.js";

/** `{signed_in, name, roles, may_read, may_operate, sign_in, anonymous, csrf_header}` of the daemon. */
export async function loadSession() {
  const session = await ask("/v1/session");
  useCsrfHeader(session.csrf_header);
  return session;
}

/** Whether the address has the code of a sign-in link. */
export const holdsCode = () => location.hash.startsWith("#code=");

/** Takes a code that `orchestrator page` put into the address; returns a problem, or null. */
export async function takeCode() {
  if (!holdsCode()) return null;
  const code = location.hash.slice("#code=".length);
  history.replaceState(null, "", "#/");
  try {
    const session = await ask("/v1/session"); // the header's name, before the first change
    useCsrfHeader(session.csrf_header);
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
      ways.map((way) => h("a.button", { href: way.url }, ways.length > 1 ? plain(way.label) : "Sign in")));
  }
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
      ? h("div.gate-ways", {}, ways.map((way) => h("a.button.main", { href: way.url }, `Sign in with ${plain(way.label)}`)))
      : null,
    h("p.hint", {}, "On the daemon's machine, ", h("code", {}, "orchestrator page"), " prints a link that signs you in."));
}
