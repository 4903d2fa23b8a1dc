// One word, one picture and one colour for each phase, result, kind and span: lists, legends and waterfalls read this.

/** The phases in the order of a job's way. */
export const PHASES = ["queued", "waiting", "provisioning", "binding", "running", "teardown"];

export const PHASE_WORDS = {
  queued: "Queued",
  waiting: "Waiting",
  provisioning: "Starting",
  binding: "Binding",
  running: "Running",
  teardown: "Teardown",
  finished: "Finished",
};

export const PHASE_MEANING = {
  queued: "offered; policy is asked",
  waiting: "admitted; no runner yet",
  provisioning: "its runner is being made",
  binding: "its runner starts and proves that its way out is closed",
  running: "its work runs",
  teardown: "ended; its runner is removed, and the removal checked",
};

export const RESULTS = ["success", "failure", "error", "timeout", "cancellation", "denied"];

export const RESULT_WORDS = {
  success: "Succeeded",
  failure: "Failed",
  error: "Error",
  timeout: "Timed out",
  cancellation: "Cancelled",
  denied: "Denied",
};

/** What a row shows: the result once there is one, the phase until then. */
export const toneOf = (row) => (row.phase === "finished" && row.result ? row.result : row.phase);

export const wordOf = (row) =>
  row.phase === "finished" ? (RESULT_WORDS[row.result] ?? "Finished") : (PHASE_WORDS[row.phase] ?? row.phase);

export const WAIT_WORDS = {
  pool_full: "The pool is full",
  backend_unavailable: "The backend does not answer",
  runner_vanished: "Its runner vanished before it had the work",
  quota_exhausted: "The namespace's quota is used up",
  guard_missing: "The pool lacks a guard",
  unschedulable: "No node takes the pod",
  image_pull: "The image cannot be pulled",
  start_failing: "The runner does not start",
  runner_starting: "Its runner starts",
};

/** Why a row is where it is, in a sentence; the daemon's own where it gave one. */
export function whyOf(row) {
  if (row.why) return row.why;
  if (row.phase === "finished") return row.reason ? words(row.reason) : "";
  if (row.wait) return [WAIT_WORDS[row.wait.reason] ?? words(row.wait.reason), row.wait.detail].filter(Boolean).join(": ");
  return PHASE_MEANING[row.phase] ?? "";
}

/** A machine's word for people: `exit_nonzero` as `exit nonzero`. */
export const words = (text) => String(text ?? "").replaceAll("_", " ");

const SPAN_TONES = {
  queue: "queued",
  policy: "decision",
  wait: "waiting",
  provision: "provisioning",
  bind: "binding",
  "platform.queued": "binding",
  "platform.refused": "denied",
  execute: "running",
  "identity.exchange": "token",
  "platform.completing": "teardown",
  teardown: "teardown",
};

/** The colour of a span: its own, else that of the phase it is a part of. */
export const spanTone = (name, parentTone) => SPAN_TONES[name] ?? parentTone ?? "running";

export const LEGEND = [
  ["queued", "queue"], ["decision", "policy"], ["waiting", "wait"], ["provisioning", "provision"],
  ["binding", "bind"], ["running", "execute"], ["token", "token"], ["teardown", "teardown"],
];

export const KINDS = { decision: "Decisions", token: "Tokens", egress: "Egress", receipt: "Receipts", alarm: "Alarms" };

/** Pools without what changes each second: what a view is made from. */
export const steady = (pools) => pools.map(({ oldest_wait_seconds: _, ...pool }) => pool);
