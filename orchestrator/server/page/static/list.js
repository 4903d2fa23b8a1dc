// A long list of which only what is seen exists. A grid for the keyboard: arrows, Page Up, Page Down, Home, End.

import { h } from "/page/dom.js";

const BEYOND = 6;

/**
 * `columns` are `{name, label}`; `make()` returns `{element, link, show(row)}`: one reusable line, whose `link` takes
 * the focus. Lines have one height, that of the custom property `--line-size` on the list.
 */
export class VirtualList {
  #rows = [];
  #free = [];
  #shown = new Map();
  #active = "";
  #make;
  #body;
  #frame = 0;
  #index = new Map();
  #sizes = new ResizeObserver(() => this.#soon());

  constructor({ label, columns, make }) {
    this.#make = make;
    this.#body = h("div.lines", { role: "rowgroup" });
    const head = h("div.line-head", { role: "row", "aria-rowindex": 1 },
      columns.map((one) => h(`span.c-${one.name}`, { role: "columnheader" }, one.label)));
    this.scroller = h("div.list-scroll", { on: { scroll: () => this.#soon() } }, this.#body);
    this.element = h("div.list", { role: "grid", "aria-label": label, "aria-colcount": columns.length },
      h("div", { role: "rowgroup" }, head), this.scroller);
    this.element.addEventListener("keydown", (event) => this.#key(event));
    this.element.addEventListener("focusin", (event) => this.#focused(event.target));
    this.#sizes.observe(this.scroller);
  }

  get lineHeight() {
    return parseFloat(getComputedStyle(this.element).getPropertyValue("--line-size")) || 44;
  }

  /** The rows, in order; each has an `id`. */
  show(rows) {
    this.#rows = rows;
    this.element.setAttribute("aria-rowcount", String(rows.length + 1));
    this.#soon();
  }

  /** Shows the lines that are there again, such as for ages. */
  tick() {
    for (const [id, line] of this.#shown) {
      const row = this.#byId(id);
      if (row) line.show(row);
    }
  }

  leave() {
    this.#sizes.disconnect();
    cancelAnimationFrame(this.#frame);
  }

  #byId(id) {
    return this.#rows[this.#index.get(id) ?? -1];
  }

  #soon() {
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      this.#draw();
    });
  }

  #draw() {
    const height = this.lineHeight;
    this.#body.style.setProperty("height", `${this.#rows.length * height}px`);
    const top = this.scroller.scrollTop;
    const first = Math.max(0, Math.floor(top / height) - BEYOND);
    const last = Math.min(this.#rows.length, Math.ceil((top + this.scroller.clientHeight) / height) + BEYOND);
    this.#index = new Map(this.#rows.map((row, index) => [row.id, index]));
    const wanted = new Map();
    for (let index = first; index < last; index += 1) wanted.set(this.#rows[index].id, index);
    this.#keepActive(wanted, first);
    for (const [id, line] of this.#shown) {
      if (wanted.has(id)) continue;
      this.#shown.delete(id);
      this.#free.push(line);
    }
    for (const [id, index] of wanted) this.#place(id, index, height);
    for (const line of this.#free.splice(0)) line.element.remove();
  }

  /** The line with the focus stays even where it is not seen; one line can always be reached by Tab. */
  #keepActive(wanted, first) {
    const index = this.#index.get(this.#active);
    if (index === undefined) this.#active = this.#rows[first]?.id ?? "";
    else if (this.element.contains(document.activeElement)) wanted.set(this.#active, index);
    else if (!wanted.has(this.#active)) this.#active = this.#rows[Math.min(first + BEYOND, this.#rows.length - 1)]?.id ?? "";
  }

  #place(id, index, height) {
    let line = this.#shown.get(id);
    if (!line) {
      line = this.#free.pop() ?? this.#make();
      this.#shown.set(id, line);
      line.element.dataset.id = id;
      if (!line.element.isConnected) this.#body.append(line.element);
    }
    line.element.style.setProperty("transform", `translateY(${index * height}px)`);
    line.element.setAttribute("aria-rowindex", String(index + 2));
    line.link.tabIndex = id === this.#active ? 0 : -1;
    line.show(this.#rows[index]);
  }

  #focused(target) {
    const id = target.closest("[data-id]")?.dataset.id;
    if (!id || id === this.#active) return;
    const before = this.#shown.get(this.#active);
    if (before) before.link.tabIndex = -1;
    this.#active = id;
    this.#shown.get(id).link.tabIndex = 0;
  }

  #key(event) {
    const index = this.#index.get(this.#active);
    if (index === undefined || event.altKey || event.metaKey) return;
    const page = Math.max(1, Math.floor(this.scroller.clientHeight / this.lineHeight) - 1);
    const last = this.#rows.length - 1;
    const steps = { ArrowDown: index + 1, ArrowUp: index - 1, PageDown: index + page, PageUp: index - page, Home: 0, End: last };
    if (!(event.key in steps)) return;
    event.preventDefault();
    this.#goTo(Math.min(last, Math.max(0, steps[event.key])));
  }

  #goTo(index) {
    const height = this.lineHeight;
    const top = index * height;
    const view = this.scroller;
    if (top < view.scrollTop) view.scrollTop = top;
    else if (top + height > view.scrollTop + view.clientHeight) view.scrollTop = top + height - view.clientHeight;
    this.#active = this.#rows[index].id;
    this.#draw();
    this.#shown.get(this.#active)?.link.focus({ preventScroll: true });
  }
}
