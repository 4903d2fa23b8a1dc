"""What was decided, issued, reached and built. None of these functions can show a token: the API has none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import duration, plain, size

Document = Mapping[str, Any]

_MOST_LINES = 200
_VERDICT_STYLES = {"allow": "green", "deny": "magenta", "undefined": "magenta", "error": "bold red"}


def heading(text: str) -> Text:
    return Text(text, style="bold")


def decisions(job: Document) -> Group | None:
    """Policy's answers in their order, each with its reasons; None when policy was never asked."""
    if not job.get("decisions"):
        return None
    parts: list[RenderableType] = [heading("Decisions")]
    for decision in job["decisions"]:
        parts.append(_verdict(decision))
        parts += [
            Text(f"      {plain(reason['message'])} [{plain(reason['code'])}]")
            for reason in decision.get("reasons", [])
        ]
        parts += [
            Text(f"      only watched: {plain(reason['message'])} [{plain(reason['code'])}]", "yellow")
            for reason in decision.get("observed", [])
        ]
        for waiver in decision.get("waivers", []):
            codes = plain(", ".join(waiver["codes"]))
            parts.append(Text(f"      set aside by exception {plain(waiver['exception'])}: {codes}", "bold yellow"))
        bounds = _obligations(decision.get("obligations") or {})
        if bounds and decision["verdict"] == "allow":
            parts.append(Text(f"      {bounds}", "dim"))
    return Group(*parts)


def _verdict(decision: Document) -> Text:
    verdict, audience = plain(decision["verdict"]), plain(decision.get("audience"))
    asked = plain(decision["stage"]) + (f" for {audience}" if audience else "")
    text = Text.assemble("  ", (f"{verdict:<9}", _VERDICT_STYLES.get(verdict, "")), f" {asked}")
    bundle = plain(decision.get("bundle_digest")).removeprefix("sha256:")[:12]
    engine = " ".join(word for word in (plain(decision.get("engine")), bundle and f"bundle {bundle}") if word)
    return text.append(f"  {engine}", "dim")


def _obligations(bounds: Document) -> str:
    texts = []
    if bounds.get("egress"):
        texts.append("may reach " + ", ".join(plain(rule) for rule in bounds["egress"]))
    if bounds.get("max_duration_seconds"):
        texts.append(f"at most {duration(bounds['max_duration_seconds'])}")
    if bounds.get("token_ttl_seconds"):
        texts.append(f"tokens live {duration(bounds['token_ttl_seconds'])}")
    if bounds.get("session_tags"):
        texts.append("tags " + ", ".join(f"{plain(k)}={plain(v)}" for k, v in sorted(bounds["session_tags"].items())))
    return "; ".join(texts)


def tokens(job: Document) -> Group | None:
    """Tokens issued and refused: what names them, never their values. None when none was asked for."""
    issued, refused = job.get("tokens") or [], job.get("token_refusals") or []
    if not issued and not refused:
        return None
    table = _table("", "AUDIENCE", "SUBJECT", "SIGNED", "LIVES", "UNTIL", "JTI")
    for token in issued[:_MOST_LINES]:
        table.add_row(
            _fate(token),
            Text(plain(token["audience"])),
            Text(plain(token["subject"])),
            plain(token.get("algorithm") or token.get("kind")),
            duration(token["expires_at"] - token["issued_at"]),
            datetime.fromtimestamp(token["expires_at"], UTC).strftime("%H:%M:%SZ"),
            Text(plain(token["jti"])[:16], "dim"),
        )
    for refusal in refused[:_MOST_LINES]:
        why = " by ".join(word for word in (refusal["reason"], refusal.get("rule")) if word)
        table.add_row(Text("refused", "magenta"), Text(plain(refusal["audience"])), Text(plain(why)))
    return Group(heading("Tokens"), table)


def _fate(token: Document) -> Text:
    """What became of a token, as far as more than its issue is known."""
    if token.get("not_made"):
        return Text("not made", "magenta")
    return Text("revoked", "dim") if token.get("revoked_at") else Text("issued", "green")


def egress_verdicts(job: Document) -> Group | None:
    """What the gateway let through and what not; None when nothing was tried."""
    verdicts: Sequence[Document] = job.get("egress") or []
    if not verdicts:
        return None
    table = _table("", "DESTINATION", "RULE OR REASON", "ADDRESS", "UP", "DOWN", "TOOK")
    for verdict in verdicts[:_MOST_LINES]:
        allowed = bool(verdict["allowed"])
        why = plain(verdict.get("rule") if allowed else verdict.get("reason"))
        if verdict.get("connections", 1) > 1:
            why += f" ×{verdict['connections']}"
        table.add_row(
            Text("allowed", "green") if allowed else Text("denied", "magenta"),
            Text(f"{plain(verdict['protocol'])}://{plain(verdict['host'])}:{plain(verdict['port'])}"),
            Text(f"{why} (canary)" if verdict.get("canary") else why),
            plain(verdict.get("address")),
            size(verdict.get("bytes_up", 0)) if allowed else "",
            size(verdict.get("bytes_down", 0)) if allowed else "",
            duration(verdict.get("duration_ns", 0) / 1e9) if allowed else "",
        )
    parts: list[RenderableType] = [heading("Egress"), table]
    hidden = max(0, len(verdicts) - _MOST_LINES) + int(job.get("egress_omitted") or 0)
    if hidden:
        parts.append(Text(f"  and {hidden} more", "dim"))
    return Group(*parts)


def artifacts(job: Document) -> Group | None:
    """What the job says it built; None when it said nothing."""
    if not job.get("artifacts"):
        return None
    table = _table("NAME", "DIGEST", "SIZE")
    for artifact in job["artifacts"][:_MOST_LINES]:
        table.add_row(Text(plain(artifact["name"])), plain(artifact["digest"]), size(artifact.get("size_bytes", 0)))
    return Group(heading("Artifacts"), table)


def _table(*names: str) -> Table:
    table = Table(box=None, pad_edge=True, header_style="dim", padding=(0, 1, 0, 1))
    for name in names:
        table.add_column(name, overflow="fold")
    return table
