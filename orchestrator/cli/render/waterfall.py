"""A trace as a waterfall: each span under its parent, with its bar on one common scale of time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from orchestrator.cli.render.words import duration, plain

Document = Mapping[str, Any]

_MOST_SPANS = 200
_DEEPEST = 16
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class _Line:
    span: Document
    depth: int


def waterfall(trace: Document, *, now_ns: int = 0, bar_width: int = 40, ascii_only: bool = False) -> Table:
    """The spans of `trace` (the API's document) in order of start below their parents.

    A span that has not ended is marked `…`. While the whole has not, it reaches to `now_ns`, as long as no time that is
    known is newer. Spans whose parent is not in
    the trace stand at the top. At most 200 lines are drawn; the rest is counted.
    """
    spans: Sequence[Document] = trace.get("spans") or []
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(overflow="fold")
    table.add_column(no_wrap=True, min_width=bar_width, max_width=bar_width)
    table.add_column(no_wrap=True, justify="right")
    table.add_column(overflow="fold")
    if not spans:
        table.add_row(Text("no spans yet", "dim"))
        return table
    start = min(span["start_ns"] for span in spans)
    goes_on = any(not span.get("end_ns") and not span.get("parent_span_id") for span in spans)
    known = (max(span["start_ns"], span.get("end_ns") or 0) for span in spans)
    end = max(start + 1, now_ns if goes_on else 0, *known)
    lines = list(_in_order(spans))
    for line in lines[:_MOST_SPANS]:
        table.add_row(*_row(line, start, end, bar_width, ascii_only=ascii_only))
    if len(lines) > _MOST_SPANS:
        table.add_row(Text(f"and {len(lines) - _MOST_SPANS} more spans", "dim"))
    return table


def _in_order(spans: Sequence[Document]) -> Iterator[_Line]:
    """Depth first by start time. Every span comes once, even when parents form a ring (job spans are untrusted)."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[Document]] = {}
    for span in sorted(
        spans, key=lambda span: (span["start_ns"], span.get("end_ns") or math.inf, str(span["span_id"]))
    ):
        parent = span.get("parent_span_id") or ""
        children.setdefault(parent if parent in known and parent != span["span_id"] else "", []).append(span)
    done: set[int] = set()
    roots = children.get("", []) + [span for span in spans if span.get("parent_span_id")]
    for root in roots:
        pending = [_Line(root, 0)]
        while pending:
            line = pending.pop()
            if id(line.span) in done:
                continue
            done.add(id(line.span))
            yield line
            below = children.get(line.span["span_id"], [])
            pending += [_Line(child, line.depth + 1) for child in reversed(below)]


def _row(line: _Line, start: int, end: int, width: int, *, ascii_only: bool) -> tuple[Text, Text, Text, Text]:
    span = line.span
    failed = str(span.get("status", "")).lower() == "error"
    open_end = not span.get("end_ns") or bool((span.get("attributes") or {}).get("orchestrator.open"))
    last = max(span.get("end_ns") or end, span["start_ns"])
    colour = "red" if failed else ("yellow" if open_end else "cyan")
    scale = width / (end - start)
    bar = _bar((span["start_ns"] - start) * scale, (last - span["start_ns"]) * scale, width, ascii_only=ascii_only)
    took = duration((last - span["start_ns"]) / 1e9) + ("…" if open_end and not ascii_only else "")
    name = "  " * min(line.depth, _DEEPEST) + plain(span["name"])
    return Text(name, "bold" if line.depth == 0 else ""), Text(bar, colour), Text(took), _remark(span, failed=failed)


def _bar(offset: float, length: float, width: int, *, ascii_only: bool) -> str:
    """A bar of `length` cells after `offset` cells; never invisible, never over the edge."""
    first = min(int(offset), width - 1)
    if ascii_only:
        cells = max(1, min(round(length), width - first))
        return " " * first + "#" * cells
    eighths = max(1, min(round(length * 8), (width - first) * 8))
    whole, rest = divmod(eighths, 8)
    return " " * first + _EIGHTHS[8] * whole + (_EIGHTHS[rest] if rest else "")


def _remark(span: Document, *, failed: bool) -> Text:
    attributes: Mapping[str, Any] = span.get("attributes") or {}
    words = []
    if failed:
        words.append(str(attributes.get("error.type") or "error"))
    events = span.get("events") or []
    if events:
        words.append(f"{len(events)} event{'s' if len(events) > 1 else ''}")
    return Text(plain(", ".join(words)), "red" if failed else "dim")
