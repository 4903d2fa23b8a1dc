"""Rows of the table of results: what was tried, what stopped it, and by what that is seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from threats import THREATS

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "attack-results.md"
ROWS = Path(__file__).parents[2] / "build" / "attacks.json"

HEAD = """# Attacks, and what became of them

Each row was played against a running daemon, most of them from inside a job, by `make test-attacks`, which writes this
page anew: a row is here because its test passed. The numbers are those of the threats below.

| threat | attack | stopped by | seen by | test |
| --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True, slots=True, order=True)
class Row:
    """One attack that failed. `stopped_by` is the control, `seen_by` what an operator finds of it afterwards."""

    threat: str
    attack: str
    stopped_by: str
    seen_by: str
    test: str


def page(rows: Iterable[Row]) -> str:
    """The whole page, the same for the same rows."""
    number = {threat.id: place for place, threat in enumerate(THREATS)}
    ordered = sorted(set(rows), key=lambda row: (number[row.threat], row.test, row.attack))
    lines = [f"| {row.threat} | {row.attack} | {row.stopped_by} | {row.seen_by} | `{row.test}` |" for row in ordered]
    played = {row.threat for row in ordered}
    return HEAD + "\n".join(lines) + "\n\n" + _threats(played)


def _threats(played: set[str]) -> str:
    lines = [
        "## All threats",
        "",
        "| | STRIDE | threat | played here | also played by | not shown |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for threat in THREATS:
        here = "yes" if threat.id in played else "no"
        also = ", ".join(f"`{path}`" for path in threat.elsewhere)
        lines.append(f"| {threat.id} | {threat.stride} | {threat.title} | {here} | {also} | {threat.open_part} |")
    return "\n".join(lines) + "\n"


def read(path: Path) -> list[Row]:
    """Rows as a run has written them."""
    found: list[Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    return [Row(**one) for one in found]


def write(rows: Iterable[Row], path: Path) -> None:
    """Keep the rows of a run."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps([asdict(row) for row in sorted(set(rows))], indent=1), encoding="utf-8")


def main() -> int:
    """`evidence.py [--check]`: write the page from the last run, or say whether it is as that run would write it."""
    text = page(read(ROWS))
    if "--check" not in sys.argv[1:]:
        PAGE.write_text(text, encoding="utf-8")
        print(f"wrote {PAGE.relative_to(Path.cwd())}")
        return 0
    if PAGE.read_text(encoding="utf-8") != text:
        print(f"{PAGE.name} is not what this run shows.\n  fix: run make test-attacks and commit it", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
