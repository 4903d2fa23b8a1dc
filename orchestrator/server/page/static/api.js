// Asks the daemon. Every answer is JSON or a problem document; every request has an end.

import { learnClock } from "/page/format.js";
import { sealed } from "/page/seal.js";

const TIMEOUT_MS = 20_000;

/** A refusal of the daemon, or of the way to it (`status` 0). */
export class Problem extends Error {
  constructor(status, document) {
    super(document.detail || document.title || `the daemon answered ${status}`);
    this.status = status;
    this.reason = document.reason ?? "";
    this.fix = document.fix ?? "";
  }
}

export async function problemOf(response) {
  const body = await response.json().catch(() => ({}));
  return new Problem(response.status, body && typeof body === "object" ? body : {});
}

/** The JSON of a path; `signal` ends it early. */
export async function ask(path, { method = "GET", body, signal } = {}) {
  const limit = AbortSignal.timeout(TIMEOUT_MS);
  const headers = { Accept: "application/json", ...sealed() };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, limit]) : limit,
      credentials: "same-origin",
      redirect: "error",
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Problem(0, { detail: "The daemon does not answer." });
  }
  learnClock(response.headers.get("Date"));
  if (!response.ok) throw await problemOf(response);
  return response.status === 204 ? null : response.json();
}
