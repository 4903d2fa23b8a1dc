// What an item of the activity says, in one line for people.

import { duration, plain, size } from "/page/format.js";
import { words } from "/page/words.js";

/** `{tone, verb, text, more}` of an item: colour and picture, a word, a sentence, and what is known besides. */
export function tell(item) {
  const teller = { decision, token, egress, receipt, alarm }[item.kind];
  return teller ? teller(item) : { tone: "job", verb: words(item.kind), text: "", more: [] };
}

const codes = (reasons) => (reasons ?? []).map((one) => (typeof one === "string" ? one : one.message || words(one.code))).map(plain).join("; ");

function decision(item) {
  const allowed = item.verdict === "allow";
  const about = item.audience ? `a token for ${plain(item.audience)}` : `${words(item.stage || "admission")}`;
  return {
    tone: allowed ? "success" : "denied",
    verb: allowed ? "Allowed" : ({ deny: "Denied", undefined: "No rule", error: "Policy failed" }[item.verdict] ?? plain(item.verdict)),
    text: [about, codes(item.reasons)].filter(Boolean).join(": "),
    more: item.observed?.length ? [`only watched: ${codes(item.observed)}`] : [],
  };
}

function token(item) {
  const kind = item.token_kind ?? item.type ?? "";
  const audience = plain(item.audience ?? item.jti ?? "");
  const fate = item.fate ?? (item.revoked ? "revoked" : item.refused || item.reason ? "refused" : "issued");
  const fates = { issued: ["token", "Issued"], refused: ["denied", "Refused"], revoked: ["teardown", "Revoked"], not_made: ["cancellation", "Never made"] };
  const [tone, verb] = fates[fate] ?? ["token", plain(fate)];
  const lifetime = item.expires_at && item.issued_at ? duration((item.expires_at - item.issued_at) * 1000) : "";
  return {
    tone, verb,
    text: [`for ${audience}`, item.reason ? `: ${words(plain(item.reason))}` : ""].join(""),
    more: [item.detail && plain(item.detail), item.role && `role ${plain(item.role)}`, lifetime && `for ${lifetime}`, kind && words(plain(kind))].filter(Boolean),
  };
}

function egress(item) {
  const where = `${plain(item.host)}:${item.port}`;
  if (item.canary) return { tone: "decision", verb: "Proof", text: `${where} is out of reach, as it must be`, more: [] };
  return {
    tone: item.allowed ? "success" : "denied",
    verb: item.allowed ? "Let out" : "Refused",
    text: [where, item.allowed ? "" : words(plain(item.reason))].filter(Boolean).join(": "),
    more: [item.connections > 1 && `${item.connections} times`, item.allowed && `${size(item.bytes_up)} up, ${size(item.bytes_down)} down`].filter(Boolean),
  };
}

const receipt = (item) => ({ tone: "receipt", verb: "Signed", text: "the job's receipt", more: [item.digest ? `sha256 ${plain(item.digest).replace(/^sha256:/, "").slice(0, 12)}` : ""].filter(Boolean) });

const alarm = (item) => ({ tone: "error", verb: "Alarm", text: [words(plain(item.alarm)), plain(item.detail)].filter(Boolean).join(": "), more: [] });
