// Makes elements. Text only ever goes in as text: names of jobs are written by whoever dispatches them.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element `tag.class.class` with properties and children (elements, text, lists; null is left out).
 * `on` is a map of event handlers; names with a dash or of ARIA become attributes, all others properties.
 */
export function h(selector, props = {}, ...children) {
  const [tag, ...classes] = selector.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(props)) setProp(element, name, value);
  put(element, children);
  return element;
}

function setProp(element, name, value) {
  if (value === null || value === undefined || value === false) return;
  if (name === "on") {
    for (const [event, handler] of Object.entries(value)) element.addEventListener(event, handler);
  } else if (name === "data") {
    Object.assign(element.dataset, value);
  } else if (name.includes("-") || name === "role" || name === "scope" || name === "for" || name === "colspan") {
    element.setAttribute(name, value === true ? "true" : String(value));
  } else {
    element[name] = value;
  }
}

/** Appends children: elements as they are, everything else as text. */
export function put(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false || child === "") continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** Replaces what is in an element, keeping the place of the keyboard where an element with the same `data-key` stays. */
export function fill(element, ...children) {
  const active = document.activeElement;
  const key = active && element.contains(active) ? active.dataset.key : undefined;
  element.replaceChildren();
  put(element, children);
  if (key) {
    for (const one of element.querySelectorAll("[data-key]")) if (one.dataset.key === key) one.focus({ preventScroll: true });
  }
  return element;
}

/** Sets text only where it changed, so that nothing is laid out or read out again for nothing. */
export function setText(element, text) {
  const value = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== value) element.textContent = value;
}

const SHAPES = {
  queued: "M8 3.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9z",
  waiting: "M8 2.8a5.2 5.2 0 1 0 0 10.4A5.2 5.2 0 0 0 8 2.8zM8 5.2V8l2 1.6",
  provisioning: "M8 2.5l5 2.8v5.4l-5 2.8-5-2.8V5.3zM3 5.3l5 2.8 5-2.8M8 8.1v5.4",
  binding: "M6.8 9.2a2.6 2.6 0 0 0 3.7 0l2-2A2.6 2.6 0 1 0 8.8 3.5l-.7.7M9.2 6.8a2.6 2.6 0 0 0-3.7 0l-2 2a2.6 2.6 0 1 0 3.7 3.7l.7-.7",
  running: "!M4.8 3.2v9.6L13 8z",
  teardown: "M3 4.5h10M6.3 4.5v-1.7h3.4v1.7M4.3 4.5l.6 8.7h6.2l.6-8.7",
  finished: "M3.2 8.4l3.2 3.2 6.4-6.8",
  success: "M3.2 8.4l3.2 3.2 6.4-6.8",
  failure: "M4 4l8 8M12 4l-8 8",
  error: "M8 2.6l6 10.6H2zM8 6.6v3M8 11.2v.2",
  timeout: "M4 2.6h8M4 13.4h8M5 2.6c0 3 6 4 6 5.4s-6 2.4-6 5.4M11 2.6c0 3-6 4-6 5.4s6 2.4 6 5.4",
  cancellation: "M8 2.8a5.2 5.2 0 1 0 0 10.4A5.2 5.2 0 0 0 8 2.8zM4.4 11.6l7.2-7.2",
  denied: "M8 2.4l5 1.8v3.6c0 3-2.2 5-5 5.9-2.8-.9-5-2.9-5-5.9V4.2zM5.8 8h4.4",
  decision: "M8 2.4l5 1.8v3.6c0 3-2.2 5-5 5.9-2.8-.9-5-2.9-5-5.9V4.2zM5.8 8l1.6 1.6 2.8-3",
  token: "M10.2 9.4a3.4 3.4 0 1 0-3.2-2.3L2.6 11.5v2h2.2v-1.6h1.6v-1.6h1.3l.8-.8z",
  egress: "M2.5 8h9M8.3 4.6L11.7 8l-3.4 3.4M13.5 3.2v9.6",
  receipt: "M4 2.5h8v11l-2-1.3-2 1.3-2-1.3-2 1.3zM6 5.6h4M6 8.2h4",
  alarm: "M8 2.6l6 10.6H2zM8 6.6v3M8 11.2v.2",
  job: "M2.8 4.4h10.4v7.2H2.8zM5 7l1.6 1.2L5 9.4M8.2 9.6h2.6",
};

/** A small picture next to a word; never the only carrier of what it says. */
export function icon(name, extra = "") {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("class", `icon ${extra}`.trim());
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SVG, "path");
  const shape = SHAPES[name] ?? SHAPES.queued;
  path.setAttribute("d", shape.replace("!", ""));
  if (shape.startsWith("!")) path.setAttribute("class", "solid");
  svg.append(path);
  return svg;
}

const signatures = new WeakMap();

/** `fill`, but only when what it is made from changed: selection, focus and readers are left alone otherwise. */
export function fillFrom(element, source, build) {
  const signature = JSON.stringify(source);
  if (signatures.get(element) === signature) return;
  signatures.set(element, signature);
  fill(element, build());
}

let sayTimer = 0;
let lastSaid = 0;

/** Tells screen readers, politely and not more often than every three seconds; the newest word wins. */
export function say(text) {
  const region = document.getElementById("say");
  clearTimeout(sayTimer);
  sayTimer = setTimeout(() => {
    lastSaid = performance.now();
    setText(region, text);
  }, Math.max(50, 3000 - (performance.now() - lastSaid)));
}
