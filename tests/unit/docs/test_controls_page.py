"""The table of controls: complete, true about which tests there are, and its totals those of its rows."""

from __future__ import annotations

import ast
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reference" / "controls.md").read_text(encoding="utf-8")
MATRIX = (ROOT / "docs" / "explanation" / "stages-and-risks.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
IDS = [
    *(f"C-{number:02}" for number in range(1, 12)),
    *(f"M-{number:02}" for number in range(1, 163)),
    *(f"G-{number}" for number in range(1, 9)),
]
STATES = ("shown", "partly", "others", "not built")
PARTIES = ("cluster operator", "CI platform", "cloud", "registry", "team")
_PARTY = f"the (?:{'|'.join(PARTIES)})"
PROVIDED = re.compile(rf"provided by {_PARTY}(?:, {_PARTY})*: \S")
NOT_BUILT = re.compile(r"not built \((?:planned|open)\): \S")
TEST = re.compile(r"(tests/[\w/]+\.py|policy/[\w/]+\.rego)(?:::(\w+))?")
MAKE = re.compile(r"make ([\w-]+)")


@dataclass(frozen=True)
class Row:
    id: str
    control: str
    state: str
    rest: str
    """What is missing, or who provides it."""
    evidence: str

    @property
    def named(self) -> list[str]:
        """What stands in code marks: tests, tests of rules, commands."""
        return re.findall(r"`([^`]+)`", self.evidence)

    @property
    def links(self) -> list[str]:
        return re.findall(r"\]\([^)]+\)", self.evidence)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


ROWS = [Row(*cells(line)) for line in PAGE.splitlines() if re.match(r"\| [A-Z]-\d", line)]
BY_ID = {row.id: row for row in ROWS}


@cache
def names_in(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".rego":
        return set(re.findall(r"^(test_\w+)", text, re.MULTILINE))
    found = (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {node.name for node in found if node.name.startswith("test_")}


def is_wrong(word: str) -> str:
    """Why what a row names does not exist, or nothing."""
    if made := MAKE.fullmatch(word):
        return "" if re.search(rf"^{made[1]}:", MAKEFILE, re.MULTILINE) else "no target of the Makefile"
    named = TEST.fullmatch(word)
    if named is None:
        return "neither a test nor a command"
    path = ROOT / named[1] if named[1].startswith("tests/") else ROOT / "orchestrator" / named[1]
    if not path.is_file():
        return "no such file"
    if named[2]:
        return "" if named[2] in names_in(path) else "no such test in that file"
    benchmark = path.name.startswith("bench_")
    return "" if benchmark or (path.suffix == ".py" and _runs(path)) else "a file without tests"


def _runs(path: Path) -> bool:
    """A file has test functions, or a state machine that pytest runs as a test."""
    return bool(names_in(path)) or ".TestCase" in path.read_text(encoding="utf-8")


def test_every_id_stands_once_and_no_other():
    assert [row.id for row in ROWS] == IDS


def test_every_row_says_what_its_state_demands():
    """Shown needs something that can be run; anything else says what is missing or whose it is, in closed words."""
    wrong = []
    for row in ROWS:
        rests = bool(PROVIDED.match(row.rest)) or bool(NOT_BUILT.match(row.rest))
        fits = {
            "shown": bool(row.named) and (not row.rest or bool(PROVIDED.match(row.rest))),
            "partly": bool(row.named) and rests,
            "others": bool(PROVIDED.match(row.rest)),
            "not built": bool(NOT_BUILT.match(row.rest)) and not row.evidence,
        }
        if not row.control or not fits.get(row.state, False):
            wrong.append(f"{row.id}: {row.state}, {row.rest!r}")
    assert wrong == []


def test_everything_that_shows_a_control_exists():
    wrong = [f"{row.id}: {word}: {why}" for row in ROWS for word in row.named if (why := is_wrong(word))]
    assert wrong == []
    assert sum(len(row.named) for row in ROWS) > 3 * len(ROWS) // 2


def test_nothing_but_tests_commands_and_pages_stands_as_evidence():
    for row in ROWS:
        left = re.sub(r"`[^`]+`|\[[^\]]+\]\([^)]+\)", "", row.evidence)
        assert set(left) <= set(", "), row.id
        assert len(set(row.named)) == len(row.named), row.id


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("tests/unit/docs/test_no_page.py::test_x", "no such file"),
        ("tests/unit/docs/test_controls_page.py::test_no_such_thing", "no such test in that file"),
        ("tests/unit/docs/test_controls_page.py::is_wrong", "no such test in that file"),
        ("policy/bundles/default/scans_test.rego::test_no_such_thing", "no such test in that file"),
        ("tests/unit/policy/samples.py", "a file without tests"),
        ("make coffee", "no target of the Makefile"),
        ("on my word", "neither a test nor a command"),
    ],
)
def test_what_does_not_exist_is_found_out(word, why):
    assert is_wrong(word) == why


def test_the_totals_are_those_of_the_rows():
    told = {name: int(count) for name, count in re.findall(r"^\| ([a-z ]+) \| (\d+) \|", PAGE, re.MULTILINE)}
    counted = Counter(row.state for row in ROWS)
    print(", ".join(f"{state}: {counted[state]}" for state in STATES))
    assert told == {state: counted[state] for state in STATES} | {"all": len(IDS)}


def test_parties_are_named_on_the_page():
    for party in PARTIES:
        assert re.search(rf"the {party}\b", PAGE.partition("## ")[0]), party


def test_each_class_of_risk_is_met_at_each_stage():
    """A control that is not built meets nothing; a cell without any says who must."""
    stages, *risks = [cells(line) for line in MATRIX.splitlines() if line.startswith("| ") and "---" not in line]
    assert len(stages) == 6
    assert len(risks) == 6
    for risk, *found in risks:
        assert len(found) == len(stages) - 1, risk
        for stage, cell in zip(stages[1:], found, strict=True):
            if PROVIDED.match(cell):
                continue
            for name in cell.split(", "):
                assert name in BY_ID, f"{risk}, {stage}: {name!r} is no control"
                assert BY_ID[name].state in ("shown", "partly"), f"{risk}, {stage}: {name} is {BY_ID[name].state}"
