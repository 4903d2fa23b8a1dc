"""The trust map: its documents, who could reach what, what a change changes, and why a job gets a token or none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import duration, plain

Document = Mapping[str, Any]

_COLOURS = {"added": "yellow", "widened": "bold red", "removed": "green", "narrowed": "green"}


def documents_table(summary: Document) -> Table:
    """One line for each document."""
    table = _table("ENVIRONMENT", "GRANTS", "TARGETS", "ISSUER", "GUARDS", "FILE")
    for one in summary["documents"]:
        guards = ["protected"] if one["protected"] else []
        if one["stricter_than"] is not None:
            guards.append(f"stricter than {_environment(one['stricter_than'])}")
        table.add_row(
            plain(_environment(one["environment"])),
            str(one["grants"]),
            str(one["targets"]),
            plain(one["issuer"] or "main"),
            plain(", ".join(guards) or "-"),
            plain(one["file"]),
        )
    return table


def inventory_lines(document: Document, by: str) -> Iterator[RenderableType]:
    """Each identity, or each target, with its grants; `document` is the inventory's JSON."""
    rows = {row["rule"]: row for row in document["grants"]}
    for name, rules in document[f"by_{by}"].items():
        yield Text(plain(name), "bold")
        table = _table("RULE", "IDENTITY" if by == "target" else "TARGET", "ROLES OR PERMISSIONS", "ENDS", "WHEN")
        for row in (rows[rule] for rule in rules):
            other = ", ".join(row["identities"]) if by == "target" else f"{row['target']} ({row['audience']})"
            table.add_row(
                plain(row["rule"]),
                plain(other),
                plain(_reach(row)),
                duration(row["latest_seconds"]),
                plain(", ".join(f"{claim} {wanted}" for claim, wanted in row["conditions"].items())),
            )
        yield table
        yield Text("")


def difference_lines(document: Document) -> Iterator[RenderableType]:
    """A line for each edge that changed, with what about it did; `document` is the difference's JSON."""
    for one in document["changes"]:
        edge = " → ".join(plain(part) for part in (one["rule"], one["audience"], one["role"]) if part)
        yield Text.assemble((f"{one['change']:<9}", _COLOURS.get(one["change"], "")), edge)
        for detail in one["details"]:
            yield Text(f"          {plain(detail)}", "dim")
    if not document["changes"]:
        yield Text("no grant changes")


def explanation_lines(document: Document) -> Iterator[RenderableType]:
    """The answer, then each candidate with its conditions; `document` is the explanation's JSON."""
    asked = f"{document['audience']}" + (f" as {document['role']}" if document["role"] else "")
    yield Text(plain(f"{asked}, for jobs of {_environment(document['environment'])}"), "bold")
    yield from _answer(document["answer"])
    for candidate in document["candidates"]:
        yield Text("")
        state = "matches" if candidate["matched"] and candidate["role_ok"] else "does not match"
        if candidate["matched"] and not candidate["role_ok"]:
            state += f", since {document['role']} is none of its roles"
        roles = f" [{', '.join(candidate['roles'])}]" if candidate["roles"] else ""
        yield Text(plain(f"{candidate['rule']} → {candidate['target']}{roles}: {state}"))
        yield _conditions(candidate["conditions"])
    if document["left_out"]:
        yield Text(f"{document['left_out']} more are left out", "dim")


def job_lines(document: Document) -> Iterator[RenderableType]:
    """What the trust map says of a job now, then what was recorded; `document` is the API's."""
    if document["explanation"] is not None:
        yield from explanation_lines(document["explanation"])
    else:
        yield Text(plain(document["note"]))
    if document["listed"] is False:
        yield Text("the settings do not list this audience: it is refused to all", "bold red")
    if document["recorded"]:
        yield Text("")
        yield _recorded(document["recorded"])


def _recorded(facts: Sequence[Document]) -> Table:
    table = _table("AT", "WHAT", "RULE", "ROLE", "WHY, OR WHICH")
    for one in facts:
        told = one.get("detail") or one.get("jti", "")
        words = (one["at"], one["what"], one.get("rule", ""), one.get("role", ""), told)
        table.add_row(*(plain(word or "-") for word in words))
    return table


def _answer(answer: Document) -> Iterator[RenderableType]:
    if answer["granted"]:
        role = f" as {answer['role']}" if answer["role"] else ""
        yield Text.assemble(("granted", "green"), plain(f" by {answer['rule']}: {answer['target']}{role}"))
        yield Text(f"  at most {answer['max_ttl_seconds']} s{plain(_tags(answer['session_tags']))}", "dim")
        return
    yield Text.assemble(("refused", "bold red"), plain(f" by {answer['rule']}: {answer['code']}"))
    for name in ("claim", "wanted", "found", "fix", "link"):
        if answer[name]:
            yield Text(f"  {name:<7} {plain(answer[name])}")


def _conditions(conditions: Sequence[Document]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for one in conditions:
        mark = Text("  ok", style="green") if one["ok"] else Text("  no", style="bold red")
        found = f'is "{one["found"]}"' if one["found"] else "is missing"
        table.add_row(mark, plain(one["claim"]), plain(one["wanted"]), plain(found))
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _reach(row: Document) -> str:
    permissions = [f"{name}: {level}" for name, level in row["permissions"].items()]
    return ", ".join((*row["roles"], *permissions)) or "-"


def _tags(tags: Mapping[str, str]) -> str:
    return ", tags " + ", ".join(f"{key}={value}" for key, value in tags.items()) if tags else ""


def _environment(name: str) -> str:
    return name or "no environment"
