// The end of a job's output, followed while the job runs.

import { problemOf } from "/page/api.js";
import { h, setText } from "/page/dom.js";
import { plain, size } from "/page/format.js";
import { sealed } from "/page/seal.js";

const KEPT_CHARS = 200_000;
const TAIL_BYTES = 128_000;

/** Colours and cursor moves are for terminals. Takes time by the length of the text, however long its lines are. */
const bare = (text) => text.replace(/\u001b\[[0-9;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(\u0007|\u001b\\)/g, "").split("\n").map(last).join("\n");

/** What is left of a line that was written over. */
function last(line) {
  let end = line.length;
  while (line[end - 1] === "\r") end -= 1;
  return line.slice(line.lastIndexOf("\r", end - 1) + 1, end);
}

export class LogTail {
  #stop = new AbortController();
  #text = "";
  #decoder = new TextDecoder();
  #frame = 0;
  #cut = false;
  #follow = true;

  constructor(jobId) {
    this.jobId = jobId;
    this.pre = h("pre.log", { tabIndex: 0, role: "log", "aria-live": "off", "aria-label": "The job's output", on: { scroll: () => this.#scrolled() } });
    this.note = h("p.small.muted", { role: "status" });
    this.element = h("div", {}, this.pre, this.note);
  }

  /** Reads from near the end; `known` is the log of a job that has ended. */
  async start(known) {
    const offset = known ? Math.max(0, known.bytes_kept - TAIL_BYTES) : 0;
    this.#cut = offset > 0;
    setText(this.note, "Reading…");
    try {
      const path = `/v1/jobs/${encodeURIComponent(this.jobId)}/log?offset=${offset}&follow=${known ? "false" : "true"}`;
      const response = await fetch(path, { headers: sealed(), signal: this.#stop.signal, credentials: "same-origin", redirect: "error" });
      if (!response.ok) throw await problemOf(response);
      if (!known) setText(this.note, "Following. Registered secrets are masked.");
      const reader = response.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) break;
        this.#add(this.#decoder.decode(value, { stream: true }));
      }
      this.#end(known);
    } catch (error) {
      if (!this.#stop.signal.aborted) setText(this.note, error.reason ? `${error.message}${error.fix ? ` ${error.fix}` : ""}` : "The connection to the output was lost. Reload the page to read it again.");
    }
  }

  leave() {
    this.#stop.abort();
    cancelAnimationFrame(this.#frame);
  }

  #add(text) {
    this.#text += text;
    if (this.#text.length > KEPT_CHARS) {
      this.#text = this.#text.slice(this.#text.indexOf("\n", this.#text.length - KEPT_CHARS) + 1);
      this.#cut = true;
    }
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      this.pre.textContent = (this.#cut ? "… earlier output is left out\n" : "") + plain(bare(this.#text));
      if (this.#follow) this.pre.scrollTop = this.pre.scrollHeight;
    });
  }

  #scrolled() {
    this.#follow = this.pre.scrollTop + this.pre.clientHeight >= this.pre.scrollHeight - 8;
  }

  #end(known) {
    const parts = [this.#text ? "The output ends here." : "It wrote nothing."];
    if (known && this.#text) {
      parts.push(`${size(known.bytes_kept)} kept`);
      if (known.bytes_dropped) parts.push(`${size(known.bytes_dropped)} dropped beyond the bound`);
      if (known.secrets_masked) parts.push(`${known.secrets_masked} secrets masked`);
    }
    setText(this.note, parts.length > 1 ? `${parts[0]} ${parts.slice(1).join(", ")}.` : parts[0]);
  }
}
