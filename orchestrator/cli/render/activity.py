"""What was decided, issued, reached and signed, as lines. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import plain, short_id, size

Document = Mapping[str, Any]


def activity_table(items: Sequence[Document], *, header: bool = True) -> Table:
    """One line for each item, in the order given."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0), show_header=header)
    table.add_column("AT", no_wrap=True)
    table.add_column("JOB", no_wrap=True, min_width=12)
    table.add_column("NAME", no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("KIND", no_wrap=True, min_width=8)
    table.add_column("WHAT", overflow="fold")
    for item in items:
        tell = _TOLD.get(item["kind"])
        table.add_row(
            plain(item["at"])[:19],
            short_id(item["job_id"]),
            Text(plain(item["job_name"])),
            Text(plain(item["kind"])),
            tell(item) if tell else Text(),
        )
    return table


def _decision(item: Document) -> Text:
    allowed = item["verdict"] == "allow"
    about = f"a token for {item['audience']}" if item["audience"] else item["stage"]
    reasons = "; ".join(f"{one['message']} [{one['code']}]" for one in item["reasons"])
    text = Text(f"{plain(item['verdict'])} ", "green" if allowed else "bold red")
    return text.append(f"{plain(about)}{': ' if reasons else ''}{plain(reasons)}", "default")


def _token(item: Document) -> Text:
    fate = plain(item["fate"])
    style = {"issued": "green", "refused": "bold red"}.get(fate, "yellow")
    about = item.get("audience") or item.get("jti")
    why = ", ".join(plain(item[name]) for name in ("reason", "detail", "role") if item.get(name))
    return Text(f"{fate} ", style).append(f"{plain(about)}{f' ({why})' if why else ''}", "default")


def _egress(item: Document) -> Text:
    where = f"{plain(item['host'])}:{item['port']}"
    if item["canary"]:
        return Text(f"proof {where} is out of reach, as it must be", "dim")
    times = f", {item['connections']} times" if item["connections"] > 1 else ""
    if item["allowed"]:
        moved = f"{size(item['bytes_up'])} up, {size(item['bytes_down'])} down"
        return Text("allowed ", "green").append(f"{where} ({moved}{times})", "default")
    return Text("refused ", "bold red").append(f"{where} ({plain(item['reason'])}{times})", "default")


def _receipt(item: Document) -> Text:
    return Text(f"signed {plain(item['digest'])}")


def _alarm(item: Document) -> Text:
    return Text(f"{plain(item['alarm'])}: {plain(item['detail'])}", "bold red")


_TOLD: Mapping[str, Callable[[Document], Text]] = {
    "decision": _decision,
    "token": _token,
    "egress": _egress,
    "receipt": _receipt,
    "alarm": _alarm,
}
