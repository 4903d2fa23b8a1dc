// This page's own secret. Browsers give cookies to every server on this host, whatever its port: a cookie counts only
// together with what is kept here, which no page of another origin can read.

const HEADER = "X-Orchestrator-Page";
const UNATTENDED = "X-Orchestrator-Unattended";
const KEY = "seal";
const UNATTENDED_MS = 60_000;

const base64url = (bytes) => btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");

let seal = "";
let touched = Date.now();

for (const event of ["pointerdown", "pointermove", "keydown", "wheel", "touchstart"]) {
  addEventListener(event, () => { touched = Date.now(); }, { capture: true, passive: true });
}

/** The secret, made when it is first asked for. */
function mine() {
  if (seal) return seal;
  try {
    seal = localStorage.getItem(KEY) ?? "";
    if (!/^[\w-]{43}$/.test(seal)) {
      seal = base64url(crypto.getRandomValues(new Uint8Array(32)));
      localStorage.setItem(KEY, seal);
    }
  } catch {
    seal ||= base64url(crypto.getRandomValues(new Uint8Array(32))); // good for as long as this page is open
  }
  return seal;
}

/** The headers that show a request to be of this page, and whether anybody is there. */
export const sealed = () => ({ [HEADER]: mine(), ...(Date.now() - touched > UNATTENDED_MS ? { [UNATTENDED]: "1" } : {}) });
