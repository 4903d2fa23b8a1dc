// Times, spans of time and sizes, for people. Every time is the daemon's; the page only shows it in this zone.

let offsetMs = 0;

/** Takes the daemon's clock from an answer, so that ages are right where this machine's clock is not. */
export function learnClock(dateHeader) {
  const theirs = Date.parse(dateHeader ?? "");
  if (!Number.isNaN(theirs)) {
    const off = theirs + 500 - Date.now(); // the header has whole seconds
    offsetMs = Math.abs(off) > 1500 ? off : 0;
  }
}

export const now = () => Date.now() + offsetMs;

const at = (text) => (text ? Date.parse(text) : NaN);

/** Milliseconds as `12 s`, `3 m 05 s`, `2 h 07 m`, `3 d 4 h`. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  const clamped = Math.max(0, ms);
  if (clamped < 1) return clamped ? "<1 ms" : "0 ms";
  if (clamped < 1000) return `${Math.round(clamped)} ms`;
  const seconds = clamped / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ${pad(Math.floor(seconds % 60))} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${pad(minutes % 60)} m` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** The same without tenths, for what ticks each second. */
export function age(text) {
  const ms = now() - at(text);
  return Number.isFinite(ms) ? duration(Math.max(1000, Math.floor(ms / 1000) * 1000)).replace(".0", "") : "";
}

export function between(from, to) {
  return duration((to ? at(to) : now()) - at(from));
}

const pad = (number) => String(number).padStart(2, "0");

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const dayFormat = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const longFormat = new Intl.DateTimeFormat(undefined, {
  weekday: "short", day: "numeric", month: "short", year: "numeric",
  hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23", timeZoneName: "short",
});

/** The time of day, with the date when it was not today. */
export function clock(text) {
  const moment = at(text);
  if (Number.isNaN(moment)) return "";
  const told = clockFormat.format(moment);
  return new Date(moment).toDateString() === new Date(now()).toDateString() ? told : `${dayFormat.format(moment)}, ${told}`;
}

/** Date, time and zone in full, and the same in UTC. */
export function moment(text) {
  const time = at(text);
  return Number.isNaN(time) ? "" : `${longFormat.format(time)} (${new Date(time).toISOString()})`;
}

export const zone = () => {
  const part = longFormat.formatToParts(now()).find((one) => one.type === "timeZoneName");
  const name = Intl.DateTimeFormat().resolvedOptions().timeZone;
  return part && part.value !== name ? `${name} (${part.value})` : name;
};

export function size(bytes) {
  if (!Number.isFinite(bytes)) return "";
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

export const count = (number, one, many = `${one}s`) => `${number.toLocaleString()} ${number === 1 ? one : many}`;

/** Characters that control, turn the direction or cannot be seen would let a name lie about itself and what follows it. */
export const plain = (text) => String(text ?? "").replace(
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\udb40[\udc00-\udc7f]/g,
  "\ufffd");

/** A long id, short enough for a line; the whole is in its title. */
export const shortId = (id) => (id.length > 22 ? `${id.slice(0, 13)}…${id.slice(-6)}` : id);
