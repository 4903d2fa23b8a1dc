// Keeps the page's picture of the jobs that of the daemon: the list, then one stream; after a gap what was missed, or the
// list again, as the daemon says.

import { ask } from "/page/api.js";
import { readEvents } from "/page/sse.js";

const FIRST_RETRY_MS = 1000;
const LONGEST_RETRY_MS = 30_000;
const PAGE = 1000;
const MAX_PAGES = 40;
const MAX_FINISHED = 2000;

/** Rows by id and the overview. Events: `rows`, `overview`, `state`, `activity`. */
export class Live extends EventTarget {
  rows = new Map();
  overview = null;
  /** `connecting`, `live`, `lost` (tries again at `retryAt`) or `refused`. */
  state = "connecting";
  retryAt = 0;
  loaded = false;
  problem = null;
  #stop = null;
  #touched = null;
  #wake = null;
  #activity = false;
  #lastId = "";
  #whole = false;

  /** Connects, and again for as long as it is not stopped. */
  async start() {
    this.stop();
    const stop = new AbortController();
    this.#stop = stop;
    let delay = FIRST_RETRY_MS;
    while (!stop.signal.aborted) {
      this.#become("connecting");
      const one = new AbortController();
      const signal = AbortSignal.any([stop.signal, one.signal]);
      try {
        await readEvents(this.#activity ? "/v1/live?activity=true" : "/v1/live", {
          signal,
          lastId: this.#whole ? this.#lastId : "",
          take: (event, data, id) => this.#take(event, data, id, signal),
          opened: () => {
            const whole = this.#whole ? Promise.resolve() : this.#load(signal);
            whole.then(
              () => { delay = FIRST_RETRY_MS; this.#become("live"); },
              (error) => { this.problem = error; one.abort(); },
            );
          },
        });
        this.problem = null;
      } catch (error) {
        if (!one.signal.aborted) this.problem = error;
      }
      one.abort();
      if (stop.signal.aborted) return;
      if (this.problem?.status === 401 || this.problem?.status === 403) return this.#become("refused");
      const pause = delay * (0.7 + 0.6 * Math.random());
      delay = Math.min(delay * 2, LONGEST_RETRY_MS);
      this.retryAt = Date.now() + pause;
      this.#become("lost");
      await this.#pause(pause, stop.signal);
    }
  }

  stop() {
    this.#stop?.abort();
    this.#wake?.();
  }

  /** Does not wait any longer before the next try. */
  retry() {
    this.#wake?.();
  }

  /** Whether the stream carries activity too: only while somebody looks at it. */
  wantActivity(wanted) {
    if (wanted === this.#activity) return;
    this.#activity = wanted;
    if (this.#stop && this.state !== "refused") this.start();
  }

  #pause(ms, signal) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => { clearTimeout(timer); resolve(); };
      signal.addEventListener("abort", this.#wake, { once: true });
    });
  }

  #become(state) {
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #take(event, data, id, signal) {
    if (id) this.#lastId = id;
    if (event === "overview") {
      this.overview = data;
      this.dispatchEvent(new Event("overview"));
    } else if (event === "jobs") {
      this.#merge(data.rows ?? [], data.gone ?? []);
    } else if (event === "resync") {
      this.#load(signal).catch((error) => { if (!signal.aborted) this.problem = error; });
    } else if (event === "activity") {
      this.dispatchEvent(new CustomEvent("activity", { detail: data }));
    }
  }

  #merge(rows, gone) {
    for (const row of rows) {
      this.rows.set(row.id, row);
      this.#touched?.add(row.id);
    }
    for (const id of gone) {
      this.rows.delete(id);
      this.#touched?.add(id);
    }
    if (this.rows.size > MAX_FINISHED) this.#forgetOld();
    this.dispatchEvent(new Event("rows"));
  }

  /** Of the finished the newest are kept; the unfinished all. */
  #forgetOld() {
    const finished = [...this.rows.values()].filter((row) => row.phase === "finished");
    if (finished.length <= MAX_FINISHED) return;
    finished.sort((a, b) => (a.finished_at < b.finished_at ? -1 : 1));
    for (const row of finished.slice(0, finished.length - MAX_FINISHED)) this.rows.delete(row.id);
  }

  /** The whole list. What the stream says meanwhile is newer than what the list says. */
  async #load(signal) {
    const touched = new Set();
    this.#whole = false;
    this.#touched = touched;
    const [overview, fresh] = await Promise.all([ask("/v1/overview", { signal }), this.#pages(signal)]);
    if (this.#touched !== touched) return;
    this.#touched = null;
    for (const id of this.rows.keys()) if (!fresh.has(id) && !touched.has(id)) this.rows.delete(id);
    for (const [id, row] of fresh) if (!touched.has(id)) this.rows.set(id, row);
    this.overview = overview;
    this.loaded = true;
    this.#whole = true;
    this.dispatchEvent(new Event("overview"));
    this.dispatchEvent(new Event("rows"));
  }

  async #pages(signal) {
    const fresh = new Map();
    let after = null;
    for (let page = 0; page < MAX_PAGES; page += 1) {
      const query = after === null ? "" : `&after=${encodeURIComponent(after)}`;
      const answer = await ask(`/v1/live/jobs?limit=${PAGE}${query}`, { signal });
      for (const row of answer.rows) fresh.set(row.id, row);
      after = answer.next ?? null;
      if (after === null) break;
    }
    return fresh;
  }
}
