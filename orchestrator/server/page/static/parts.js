// Small pieces that several views show.

import { h, icon } from "/page/dom.js";
import { clock, moment, plain, shortId } from "/page/format.js";
import { toneOf, wordOf } from "/page/words.js";

/** Picture and word of a phase or result. */
export const badge = (name, text) => h("span.badge", { data: { tone: name } }, icon(name), h("span", {}, text));

export const stateBadge = (row) => badge(toneOf(row), wordOf(row));

/** A time of day, in full on pointing at it. */
export const time = (text) => (text ? h("time", { dateTime: text, title: moment(text) }, clock(text)) : h("span.muted", {}, "not yet"));

export const jobLink = (id, name) => h("a", { href: `#/jobs/${encodeURIComponent(id)}`, title: id }, plain(name || shortId(id)));

/** A sentence of the daemon; what stands between backquotes is code. */
export const sentence = (text) => plain(text).split("`").map((part, index) => (index % 2 ? h("code", {}, part) : part));

/** A titled part of a view. */
export function card(title, body, { more = null, className = "" } = {}) {
  const id = `t-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  return h(`section.card${className ? `.${className}` : ""}`, { "aria-labelledby": id },
    h("div.card-head", {}, h("h2", { id }, title), more), body);
}

/** What a part says while it has nothing. */
export const empty = (text, hint = "") => h("p.empty", {}, text, hint ? h("span.hint", {}, hint) : null);

/** Names and values, those without a value left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return h("dl.facts", {}, shown.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

/** How much of a whole is taken, drawn and said. */
export function meter(used, whole, label) {
  const bar = h("span.meter-fill");
  const share = whole > 0 ? Math.min(1, used / whole) : 0;
  bar.style.setProperty("inline-size", `${share * 100}%`);
  return h("span.meter", {
    role: "meter", "aria-label": label, "aria-valuemin": 0, "aria-valuemax": whole, "aria-valuenow": Math.min(used, whole),
    "aria-valuetext": `${used} of ${whole}`, data: { full: String(whole > 0 && used >= whole) },
  }, bar);
}

/** Buttons of which each is on or off. `choices` are `[value, label, picture?]`; `chosen` a set. */
export function chips(label, choices, chosen, change) {
  return h("div.chips", { role: "group", "aria-label": label }, choices.map(([value, text, tone, number]) =>
    h("button.chip", {
      type: "button", "aria-pressed": String(chosen.has(value)), data: { key: `chip-${value}`, tone: tone ?? "" },
      on: { click: () => change(value, !chosen.has(value)) },
    }, tone ? icon(tone) : null, h("span", {}, text), number === undefined ? null : h("span.chip-count", {}, number))));
}

/** A problem of the daemon as it stands: what, and what to do. */
export const trouble = (error) => h("div.trouble", { role: "alert" },
  icon("error"), h("p", {}, h("strong", {}, plain(error.message)), error.fix ? h("span.hint", {}, `Fix: ${plain(error.fix)}`) : null));

/** A table; on narrow screens each row is a block with the column names beside the values. */
export function table(label, columns, rows) {
  return h("div.table-wrap", {}, h("table", { "aria-label": label },
    h("thead", {}, h("tr", {}, columns.map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, rows.map((cells) => h("tr", {}, cells.map((cell, index) =>
      h("td", { data: { label: columns[index] } }, h("div", {}, cell))))))));
}

/** A long word that may be copied: shown short, whole on pointing. */
export const digest = (text) => h("code.digest", { title: text }, String(text).replace(/^sha256:/, "").slice(0, 12));

/** A button that copies. */
export function copier(text, label) {
  const button = h("button.quiet", { type: "button", "aria-label": `Copy ${label}`, on: { click: copy } }, "Copy");
  async function copy() {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Not allowed";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  }
  return button;
}
