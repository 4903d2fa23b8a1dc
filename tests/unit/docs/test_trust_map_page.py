"""The pages on the trust map say what is: kinds and their figures, keys, claims, codes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.identity.trust import reading
from orchestrator.identity.trust.facts import OWN_FACTS
from orchestrator.identity.trust.kinds import KINDS
from tests.unit.docs.test_pages import anchors

DOCS = Path(__file__).parents[3] / "docs"
PAGE = DOCS / "reference" / "trust-map.md"
CODES = ("trust_no_grant", "trust_claim_mismatch", "trust_ambiguous", "role_not_mapped", "role_required")


@pytest.fixture(scope="module")
def text() -> str:
    return PAGE.read_text("utf-8")


def rows(text: str, heading: str) -> dict[str, list[str]]:
    """The rows of a section's tables, by the word in the first cell."""
    (section,) = (one for one in re.split(r"^## ", text, flags=re.MULTILINE) if one.startswith(heading))
    cells = [re.split(r" *\| *", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip("`"): row[1:] for row in cells}


KEYS = {
    "A document": {
        *("trust_map", "environment", "issuer", "protected", "stricter_than", "shared_roles", "targets", "grants"),
    },
    "A target": {"kind", "audience", "session_seconds", "slack_seconds", "max_ttl_seconds"},
    "A grant": {
        *("name", "when", "target", "roles", "max_ttl_seconds", "session_tags", "transitive", "permissions"),
        *("repository_id", "equals", "one_of", "matches"),
    },
}


def test_every_kind_has_its_figures(text):
    table = rows(text, "A target")
    for name, kind in KINDS.items():
        default, bounds, slack, role = table[name]
        assert default == ("has to be set" if kind.session_seconds is None else str(kind.session_seconds))
        low, high = kind.shortest_session, kind.longest_session
        assert bounds == (str(low) if low == high else f"{low} to {high}")
        assert slack == str(kind.slack_seconds)
        assert role.strip("| ").startswith("none") == (kind.roles is None)


@pytest.mark.parametrize("heading", KEYS)
def test_every_key_is_told_and_known_to_the_program(text, heading):
    told = rows(text, heading).keys() - (KINDS.keys() if heading == "A target" else set())
    assert told == KEYS[heading]
    folder = Path(reading.__file__).parent
    source = "".join((folder / name).read_text("utf-8") for name in ("reading.py", "grants.py"))
    assert [key for key in told if f'"{key}"' not in source] == []


def test_every_claim_of_ours_is_told(text):
    told = re.findall(r"`(\w+)`", text[text.index("## Claims") : text.index("## How one grant")])
    assert set(told) >= OWN_FACTS


def test_every_code_has_its_place():
    assert set(CODES) <= anchors(DOCS / "reference" / "reasons.md")
    assert "trust_map_invalid" in anchors(DOCS / "reference" / "reasons.md")
    sources = (Path(reading.__file__).parent / "refusals.py").read_text("utf-8")
    assert set(re.findall(r'^        "(\w+)",$', sources, re.MULTILINE)) == set(CODES)
