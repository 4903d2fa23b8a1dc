// A job's trace as bars on one line of time. Open spans grow with the daemon's clock.

import { fill, h, icon, setText } from "/page/dom.js";
import { duration, now, plain } from "/page/format.js";
import { LEGEND, spanTone, words } from "/page/words.js";

const MOST_SPANS = 300;
const MOST_MARKS = 200;

/** Where spans lie below each other, in the order of a walk through the tree; with depth and colour. */
export function ordered(spans) {
  const children = new Map();
  const ids = new Set(spans.map((span) => span.span_id));
  for (const span of spans) {
    const parent = ids.has(span.parent_span_id) ? span.parent_span_id : "";
    children.set(parent, [...(children.get(parent) ?? []), span]);
  }
  const lines = [];
  const walk = (parent, depth, tone) => {
    for (const span of (children.get(parent) ?? []).sort((a, b) => a.start_ns - b.start_ns)) {
      const own = depth ? spanTone(span.name, tone) : "job";
      lines.push({ span, depth, tone: own });
      walk(span.span_id, depth + 1, own === "job" ? undefined : own);
    }
  };
  walk("", 0, undefined);
  return lines.slice(0, MOST_SPANS);
}

/** Steps of 1, 2 or 5 that make three to six lines. */
function ticks(spanMs) {
  const rough = spanMs / 4;
  const power = 10 ** Math.floor(Math.log10(Math.max(rough, 1e-3)));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => one >= rough) ?? power * 10;
  const found = [];
  for (let at = 0; at <= spanMs; at += step) found.push(at);
  return found;
}

const ms = (ns) => ns / 1e6;

/** `show(trace)` draws; `tick()` lets open bars grow. */
export class Waterfall {
  #trace = null;
  #bars = [];
  #open = new Set();
  #startOnly = false;
  #signature = "";
  #until = null;
  #axis = h("div.wf-axis", { "aria-hidden": "true" });
  #lines = h("div", { role: "rowgroup" });
  #zoom = h("div.segments", { role: "group", "aria-label": "Part of the job" });

  constructor() {
    this.element = h("div.waterfall", {},
      h("div.wf-top", {}, this.#zoom,
        h("ul.legend", { "aria-label": "Colours" }, LEGEND.map(([tone, text]) => h("li", { data: { tone } }, icon(tone), text)))),
      h("div.wf", { role: "table", "aria-label": "Waterfall of the job's phases" },
        h("div", { role: "rowgroup" }, h("div.wf-head", { role: "row" },
          h("span.wf-name", { role: "columnheader" }, "Span"), h("span.wf-track", { role: "columnheader" }, h("span.hidden-text", {}, "When"), this.#axis),
          h("span.wf-took", { role: "columnheader" }, "Took"))),
        this.#lines));
  }

  show(trace) {
    this.#trace = trace;
    const signature = JSON.stringify([trace.spans.map((span) => [span.span_id, span.end_ns, span.status, span.events.length, Object.keys(span.attributes).length]), [...this.#open], this.#startOnly]);
    if (signature !== this.#signature) {
      this.#signature = signature;
      this.#draw();
    }
    this.tick();
  }

  #redraw() {
    if (this.#trace) this.show(this.#trace);
  }

  #draw() {
    const lines = ordered(this.#trace.spans);
    const execute = lines.find((one) => one.span.name === "execute");
    fill(this.#zoom, execute ? [this.#part("Whole job", false), this.#part("Start-up", true)] : []);
    if (!execute) this.#startOnly = false;
    this.#until = this.#startOnly ? ms(execute.span.start_ns) : null;
    const shown = this.#startOnly ? lines.filter((one) => one.span.start_ns < execute.span.start_ns) : lines;
    this.#bars = [];
    fill(this.#lines, shown.map((one) => this.#line(one)));
  }

  #part(text, startOnly) {
    return h("button", {
      type: "button", "aria-pressed": String(this.#startOnly === startOnly), data: { key: `part-${text}` },
      on: { click: () => { this.#startOnly = startOnly; this.#redraw(); } },
    }, text);
  }

  #line({ span, depth, tone }) {
    const bar = h("span.bar", { data: { tone, depth: String(Math.min(depth, 3)), status: span.status, open: String(span.end_ns === null) } });
    const marks = span.events.slice(0, MOST_MARKS).map((event) => ({ at: ms(event.at_ns), element: h("span.point", { data: { kind: kindOf(event) }, title: plain(event.name) }) }));
    const track = h("span.wf-track", { role: "cell" }, bar, marks.map((mark) => mark.element));
    const took = h("span.wf-took.number", { role: "cell" });
    const place = h("span.hidden-text");
    track.append(place);
    const open = this.#open.has(span.span_id);
    const button = h("button.wf-button", {
      type: "button", "aria-expanded": String(open), data: { key: `span-${span.span_id}` },
      on: { click: () => { if (open) this.#open.delete(span.span_id); else this.#open.add(span.span_id); this.#redraw(); } },
    }, depth ? plain(span.name) : "Whole job", span.status === "error" ? h("span.tag.bad", {}, "error") : null);
    const name = h("span.wf-name", { role: "rowheader" }, button);
    button.style.setProperty("--depth", String(depth));
    this.#bars.push({ span, bar, marks, took, place });
    return [h("div.wf-line", { role: "row" }, name, track, took),
      open ? h("div.wf-more", { role: "row" }, h("div", { role: "cell", "aria-colspan": 3 }, detail(span))) : null];
  }

  tick() {
    if (!this.#trace?.spans.length) return;
    const start = ms(this.#trace.spans[0].start_ns);
    const ends = this.#trace.spans.map((span) => (span.end_ns === null ? now() : ms(span.end_ns)));
    const end = this.#until ?? Math.max(...ends, start + 1);
    const whole = Math.max(end - start, 1);
    for (const { span, bar, marks, took, place } of this.#bars) {
      const from = ms(span.start_ns);
      const to = Math.max(from, span.end_ns === null ? now() : ms(span.end_ns));
      bar.style.setProperty("inset-inline-start", `${Math.min(100, (100 * (from - start)) / whole)}%`);
      bar.style.setProperty("inline-size", `${Math.max(0, Math.min(100, (100 * (Math.min(to, end) - from)) / whole))}%`);
      for (const mark of marks) {
        mark.element.style.setProperty("inset-inline-start", `${(100 * (mark.at - start)) / whole}%`);
        mark.element.hidden = mark.at > end;
      }
      setText(took, `${duration(to - from)}${span.end_ns === null ? " …" : ""}`);
      setText(place, `begins at ${duration(from - start)}`);
    }
    this.#showAxis(whole);
  }

  #showAxis(whole) {
    const found = ticks(whole);
    if (this.#axis.childElementCount !== found.length) fill(this.#axis, found.map(() => h("span")));
    found.forEach((at, index) => {
      const tick = this.#axis.children[index];
      tick.style.setProperty("inset-inline-start", `${(100 * at) / whole}%`);
      tick.hidden = at / whole > 0.93;
      setText(tick, at ? duration(at).replace(".0", "") : "0");
    });
  }
}

const kindOf = (event) => {
  if (event.name.includes("token")) return event.name.endsWith("refused") ? "bad" : "token";
  const verdict = Object.entries(event.attributes).find(([name]) => name.endsWith("egress.verdict"));
  const canary = Object.entries(event.attributes).find(([name]) => name.endsWith("egress.canary"));
  if (verdict) return verdict[1] === "deny" && !canary?.[1] ? "bad" : "egress";
  return event.name.includes("alarm") ? "bad" : "note";
};

/** Attributes and events of a span, as they go to the collector. */
function detail(span) {
  const pairs = Object.entries(span.attributes).map(([name, value]) => [name, Array.isArray(value) ? value.join(", ") : String(value)]);
  return [
    pairs.length ? h("dl.attributes", {}, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, plain(value) || "–")))) : null,
    span.events.length
      ? h("ul.span-events", {}, span.events.slice(0, 50).map((event) => h("li", {}, h("span.number", {}, `+${duration(ms(event.at_ns - span.start_ns))}`),
        h("span", {}, words(event.name.split(".").slice(1).join(" ") || event.name)),
        h("span.muted", {}, plain(Object.entries(event.attributes).slice(0, 4).map(([key, value]) => `${key.split(".").pop()}: ${value}`).join(" · "))))))
      : null,
    !pairs.length && !span.events.length ? h("p.muted.small", {}, "Nothing more is recorded of it.") : null,
  ];
}
