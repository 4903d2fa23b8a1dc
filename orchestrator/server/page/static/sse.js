// Server-sent events over fetch: unlike EventSource it tells why it was refused, and notices a stream gone silent.

import { problemOf, Problem } from "/page/api.js";
import { sealed } from "/page/seal.js";

const MAX_BUFFER = 8 << 20;

/**
 * Reads events until the stream ends. `take(event, data, id)` gets each, data as parsed JSON.
 * Ends with a Problem when refused, with an error when nothing at all came for `silentMs`.
 */
export async function readEvents(path, { take, opened, signal, lastId = "", silentMs = 45_000 }) {
  const silence = new AbortController();
  let timer = 0;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(new Error("silent")), silentMs);
  };
  heard();
  try {
    const headers = { Accept: "text/event-stream", ...sealed() };
    if (lastId) headers["Last-Event-ID"] = lastId;
    const response = await fetch(path, {
      headers, signal: AbortSignal.any([signal, silence.signal]), credentials: "same-origin", cache: "no-store", redirect: "error",
    });
    if (!response.ok) throw await problemOf(response);
    opened?.();
    await readLines(response.body.getReader(), heard, take);
  } finally {
    clearTimeout(timer);
  }
}

async function readLines(reader, heard, take) {
  const decoder = new TextDecoder();
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    buffer += decoder.decode(value, { stream: true });
    if (buffer.length > MAX_BUFFER) throw new Problem(0, { detail: "An event is larger than this page takes." });
    let end;
    while ((end = buffer.indexOf("\n\n")) >= 0) {
      dispatch(buffer.slice(0, end), take);
      buffer = buffer.slice(end + 2);
    }
  }
}

function dispatch(block, take) {
  let event = "message";
  let id = "";
  const data = [];
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue;
    const name = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") event = value;
    else if (name === "data") data.push(value);
    else if (name === "id") id = value;
  }
  if (data.length) take(event, JSON.parse(data.join("\n")), id);
}
