"""Secrets, credentials and scores as tables and lines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import age, duration, plain

_STATES = {"met": "green", "partly": "yellow", "unmet": "red", "unknown": "dim"}
_DAY = 86400


def secret_table(secrets: Sequence[Mapping[str, Any]], now: datetime) -> Table:
    """One line for each secret."""
    table = _table("SECRET", "OWNER", "STATE", "AGE", "LIMIT", "ROTATION", "USES", "LAST USE", "FLAGS")
    for one in secrets:
        table.add_row(
            Text(plain(one["name"])),
            Text(plain(one["owner"])),
            Text(plain(one["state"]), style="red" if one["state"] == "no_value" else ""),
            _seconds(one["age_seconds"]),
            _seconds(one["max_age_seconds"]),
            _rotation(one),
            str(one["uses"]),
            age(one["last_used_at"], now),
            Text(plain(" ".join(one["flags"])), style="yellow"),
        )
    return table


def _rotation(one: Mapping[str, Any]) -> str:
    if one["rotate_seconds"] is not None:
        return f"each {_seconds(one['rotate_seconds'])}"
    return "on demand" if one["rotatable"] else "by hand"


def credential_entries(found: Mapping[str, Any], now: datetime) -> Iterator[Text]:
    """Two or three lines for each credential, the riskiest first: who has it; age, use and rotation; what it opens."""
    for one in found["credentials"]:
        head = Text(f"{one['risk']:>3}  {plain(one['id'])}, of {plain(one['owner'])}", "bold")
        yield head.append(f"  {plain(' '.join(one['flags']))}" if one["flags"] else "", "yellow")
        counted = f"used {one['uses']}x, last {age(one['last_used_at'], now)}"
        uses = "uses not counted" if one["uses"] is None else counted
        rotation = plain(one["rotation"]).replace("_", " ")
        yield Text(f"     {_seconds(one['age_seconds'])} old, rotated {rotation}, {uses}")
        if one["opens"]:
            more = f" (+{len(one['opens']) - 2})" if len(one["opens"]) > 2 else ""
            yield Text(f"     opens: {plain(', '.join(one['opens'][:2]))}{more}")


def finding_table(findings: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each reference to a static secret in files."""
    table = _table("RISK", "KIND", "NAME", "WHERE", "JOB", "WHAT TO DO")
    for one in findings:
        place = f"{one['file']}:{one['line']}"
        cells = (one["kind"], one["name"], place, one["job"], one["fix"])
        table.add_row(str(one["risk"]), *(Text(plain(cell)) for cell in cells))
    return table


def score_lines(card: Mapping[str, Any], before: Mapping[str, Any] | None = None) -> Iterator[str]:
    """The scorecard as lines of text, with what has changed since `before`."""
    for name, label, unit in FIGURES:
        value, was = figure(card, name), figure(before, name) if before else None
        yield f"{label:<52} {shown(value, unit):>10}{_delta(value, was, unit) if before else ''}"


def checklist_lines(card: Mapping[str, Any]) -> Iterator[Text]:
    for point in card["checklist"]:
        yield Text(f"{point['number']}. {point['title']}: ").append(point["state"], style=_STATES[point["state"]])
        for evidence in point["evidence"]:
            yield Text(f"     {plain(evidence)}")
        if point["fix"]:
            yield Text(f"     do: {plain(point['fix'])}", style="dim")


FIGURES = (
    ("secret_age.secrets", "Registered static secrets", ""),
    ("secret_age.oldest_seconds", "Age of the oldest", "s"),
    ("secret_age.within_limit_share", "Secrets within their age limit", "%"),
    ("permission_scope.edges_granted", "Permissions granted", ""),
    ("permission_scope.edges_used", "Permissions used in the window", ""),
    ("permission_scope.used_share", "Share of permissions that are used", "%"),
    ("artifact_traceability.deploys_traced_share", "Deployments with signature, SBOM and provenance", "%"),
    ("artifact_traceability.builds_traced_share", "Builds with signature, SBOM and provenance", "%"),
    ("policy_coverage.explicit_share", "Decisions that a rule was about", "%"),
    ("policy_coverage.enforced_share", "Rules that are enforced, not only watched", "%"),
)
"""What a scorecard shows first: path in the document, label, unit."""


def figure(card: Mapping[str, Any], path: str) -> float | None:
    """A number of the scorecard; None where it has none."""
    group, _, name = path.partition(".")
    value = card.get(group, {}).get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def shown(value: float | None, unit: str) -> str:
    if value is None:
        return "-"
    if unit == "%":
        return f"{value:.0%}"
    return _seconds(int(value)) if unit == "s" else f"{value:.0f}"


def _delta(value: float | None, was: float | None, unit: str) -> str:
    if value is None or was is None:
        return "" if value is None and was is None else "  (new)" if was is None else "  (gone)"
    change = value - was
    if not change:
        return "  (=)"
    sign = "+" if change > 0 else "-"
    return f"  ({sign}{abs(change) * 100:.0f} points)" if unit == "%" else f"  ({sign}{shown(abs(change), unit)})"


def _seconds(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds // _DAY}d" if seconds >= 2 * _DAY else duration(seconds)


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, overflow="fold", no_wrap=name in ("RISK", "STATE", "AGE", "LIMIT", "USES"))
    return table


def name_table(names: Sequence[Mapping[str, Any]]) -> Table:
    """One line for each static secret that files refer to: what its loss would reach."""
    table = _table("RISK", "KIND", "NAME", "REFERENCES", "JOBS", "ENVIRONMENTS", "WHAT TO DO")
    for one in names:
        jobs, places = ", ".join(one["jobs"]), ", ".join(one["environments"])
        cells = (one["kind"], one["name"], one["references"], jobs, places, one["fix"])
        table.add_row(str(one["risk"]), *(Text(plain(cell)) for cell in cells))
    return table
