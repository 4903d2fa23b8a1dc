// Starts the page: who looks, the live stream, and the view that the address names.

import { fill, h, say, setText } from "/page/dom.js";
import { zone } from "/page/format.js";
import { Live } from "/page/live.js";
import { loadSession, overView, sameSession, showSession, signInView, takeSignIn, tellsOfSignIn } from "/page/session.js";
import { trouble } from "/page/parts.js";
import { activityView } from "/page/view-activity.js";
import { approvalsView } from "/page/view-approvals.js";
import { jobView } from "/page/view-job.js";
import { jobsView } from "/page/view-jobs.js";
import { overviewView } from "/page/view-overview.js";
import { poolsView } from "/page/view-pools.js";
import { sourcesView } from "/page/view-sources.js";

const VIEWS = [
  ["", "Overview", overviewView],
  ["jobs", "Jobs", jobsView],
  ["activity", "Activity", activityView],
  ["pools", "Pools", poolsView],
  ["sources", "Sources", sourcesView],
  ["approvals", "Approvals", approvalsView],
];

const main = document.getElementById("main");
const notice = document.getElementById("notice");
const live = new Live();
let session = null;
let view = null;
let ticker = 0;
let failed = null;
let over = false;

/** Path and parameters of the address: `#/jobs?phase=waiting`. */
function route() {
  const [path, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [name = "", ...rest] = path.split("/");
  return { name, id: rest.length ? decode(rest.join("/")) : "", params: new URLSearchParams(query) };
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** Changes the parameters of the address without a new entry in the history. */
function setParams(params) {
  const query = params.toString();
  const { name, id } = route();
  history.replaceState(null, "", `#/${name}${id ? `/${encodeURIComponent(id)}` : ""}${query ? `?${query}` : ""}`);
}

function show({ first = false } = {}) {
  const { name, id, params } = route();
  const entry = VIEWS.find(([one]) => one === name) ?? VIEWS[0];
  view?.leave?.();
  const context = { live, session, params, setParams, id };
  view = name === "jobs" && id ? jobView(context) : entry[2](context);
  fill(main, view.element);
  document.title = `${view.title} · Orchestrator`;
  for (const link of document.querySelectorAll("#nav a")) {
    if (link.dataset.name === entry[0]) {
      link.setAttribute("aria-current", "page");
      link.parentElement.scrollTo({ left: link.offsetLeft - 48 }); // where the views do not fit side by side
    } else link.removeAttribute("aria-current");
  }
  view.update?.();
  if (!first) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
    say(view.title);
  }
}

function showState() {
  const place = document.getElementById("state");
  const who = place.querySelector(".session") ?? h("div.session");
  const pill = place.querySelector(".pill") ?? h("span.pill", {}, h("span.dot", { "aria-hidden": "true" }), h("span.pill-text"));
  if (!pill.isConnected) fill(place, pill, who);
  const told = { connecting: "Connecting", live: "Live", lost: "Not live", refused: "Not live" }[live.state];
  pill.dataset.state = live.state;
  setText(pill.querySelector(".pill-text"), told);
  document.documentElement.dataset.live = live.state;
  showNotice();
  return who;
}

/** One line below the frame: what is most urgent of what there is to say. Drawn again only when that changes. */
function showNotice() {
  const [name, tone, draw] = toSay();
  if (notice.dataset.name !== name) {
    notice.dataset.name = name;
    notice.dataset.tone = tone;
    fill(notice, draw());
  }
  const again = notice.querySelector("[data-again]");
  const seconds = Math.max(0, Math.ceil((live.retryAt - Date.now()) / 1000));
  if (again) setText(again, seconds ? `Try now (${seconds} s)` : "Trying…");
}

function toSay() {
  const button = (text, click, data = {}) => h("button.quiet", { type: "button", data, on: { click } }, text);
  const why = live.problem?.status ? h("span.muted", {}, live.problem.message) : null;
  if (live.state === "refused" && !over) {
    return ["refused", "lost", () => [h("strong", {}, "Not live."), h("span", {}, "The daemon does not let you look any more."), button("Reload", () => location.reload())]];
  }
  if (live.state === "lost") {
    return [`lost ${live.problem?.status ?? ""}`, "lost", () => [h("strong", {}, "Not live."), h("span", {}, "What is shown may be old."), why, button("Try now", () => live.retry(), { again: "" })]];
  }
  if (over) {
    const close = () => { over = false; showNotice(); };
    return [`over ${live.state}`, "lost", () => [overView(session), live.state === "refused" ? button("Reload", () => location.reload()) : button("Close", close)]];
  }
  if (failed) return ["failed", "lost", () => [trouble(failed), button("Close", () => { failed = null; showNotice(); })]];
  if (live.overview?.draining) {
    return ["draining", "draining", () => [h("strong", {}, "Draining."), h("span", {}, "The daemon begins no job now; those that run go on.")]];
  }
  return ["", "", () => []];
}

/** Sessions end while the page is open; whoever reads on by other rights must not be shown those of before. */
async function checkSession() {
  let fresh;
  try {
    fresh = await loadSession();
  } catch {
    return; // the stream says what there is to say
  }
  if (sameSession(session, fresh)) return;
  over = session.signed_in && !fresh.signed_in;
  session = fresh;
  showSession(showState(), session, fail);
  if (session.may_read) show({ first: true });
  if (over) say("You are signed out.");
}

function fail(error) {
  failed = error;
  showNotice();
}

function showNav() {
  fill(document.getElementById("nav"), VIEWS.map(([name, title]) =>
    h("a", { href: `#/${name}`, data: { name } }, title, name === "approvals" ? h("span.nav-count") : null)));
}

function showCounts() {
  const waiting = live.overview?.approvals_waiting;
  const badge = document.querySelector(".nav-count");
  if (badge) {
    setText(badge, waiting ? waiting : "");
    badge.hidden = !waiting;
    badge.title = waiting ? `${waiting} waiting` : "";
  }
}

function showFoot() {
  const overview = live.overview;
  const choice = localStorage.getItem("theme") ?? "auto";
  const foot = document.getElementById("foot");
  if (!foot.firstChild) {
    const select = h("select", { id: "theme", on: { change: (event) => chooseTheme(event.target.value) } },
      [["auto", "As the system"], ["light", "Light"], ["dark", "Dark"]].map(([value, text]) => h("option", { value, selected: value === choice }, text)));
    fill(foot, h("span.version"), h("span", {}, `Times in ${zone()}`), h("label", { for: "theme" }, "Theme ", select));
  }
  setText(foot.querySelector(".version"), overview ? `Version ${overview.version}` : "");
}

function chooseTheme(theme) {
  if (theme === "auto") {
    localStorage.removeItem("theme");
    delete document.documentElement.dataset.theme;
  } else {
    localStorage.setItem("theme", theme);
    document.documentElement.dataset.theme = theme;
  }
}

/** Draws at most twice a second, however much is pushed. */
function soon(paint) {
  let timer = 0;
  let last = 0;
  return () => {
    if (timer) return;
    timer = setTimeout(() => {
      timer = 0;
      last = performance.now();
      paint();
    }, Math.max(16, 400 - (performance.now() - last)));
  };
}

async function start() {
  const theme = localStorage.getItem("theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  document.getElementById("skip").addEventListener("click", () => main.focus());
  document.addEventListener("focusin", ({ target }) => {
    // Where a row of buttons scrolls sideways, browsers leave one that is seen in part where it is.
    if (target.closest(".chips, .nav")) target.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  addEventListener("hashchange", () => {
    if (tellsOfSignIn()) location.reload(); // a sign-in link, opened where the page was open already
    else if (view) show();
  });
  const signInProblem = await takeSignIn();
  try {
    session = await loadSession();
  } catch (error) {
    fill(main, trouble(error), h("button.button", { type: "button", on: { click: () => location.reload() } }, "Try again"));
    return;
  }
  if (!session.may_read) {
    showSession(document.getElementById("state"), { ...session, sign_in: [] }, () => {});
    fill(main, signInView(session, signInProblem));
    return;
  }
  showNav();
  const update = soon(() => {
    view?.update?.();
    showCounts();
    showFoot();
    showNotice();
  });
  let interrupted = false;
  live.addEventListener("rows", update);
  live.addEventListener("overview", update);
  live.addEventListener("state", () => {
    showState();
    if (live.state === "live") say("Live");
    if (live.state === "lost") say("Not live");
    if (live.state === "lost" || live.state === "refused") interrupted = true;
    if (interrupted && (live.state === "live" || live.state === "refused")) {
      interrupted = false;
      checkSession();
    }
  });
  addEventListener("online", () => live.retry());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && live.state === "lost") live.retry();
  });
  showSession(showState(), session, fail);
  showFoot();
  show({ first: true });
  if (signInProblem) fail(signInProblem);
  live.start();
  ticker = setInterval(() => {
    if (document.hidden) return;
    view?.tick?.();
    if (live.state === "lost") showNotice();
  }, 1000);
  addEventListener("pagehide", () => { clearInterval(ticker); live.stop(); });
}

start();
