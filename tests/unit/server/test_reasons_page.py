"""The reason reference names every word a person can meet, and no word that does not exist."""

from __future__ import annotations

import re
from pathlib import Path

from orchestrator.model.events import WaitReason
from orchestrator.model.outcome import EndReason
from orchestrator.server.problems import REASONS

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "reasons.md").read_text()


def anchors(section: str) -> list[str]:
    text = re.search(rf"^## {section}$(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert text, section
    return re.findall(r"^### `(\w+)`", text[1], re.MULTILINE)


def test_every_end_reason_is_explained_once():
    assert sorted(anchors("Why a job ended")) == sorted(reason.value for reason in EndReason)


def test_every_wait_reason_is_explained_once():
    assert sorted(anchors("Why a job waits")) == sorted(reason.value for reason in WaitReason)


def test_every_problem_reason_is_explained_once_with_its_status():
    assert sorted(anchors("Why a request was refused")) == sorted(REASONS)
    for reason, kind in REASONS.items():
        assert re.search(rf"^### `{reason}` \({kind.status}\)$", PAGE, re.MULTILINE), reason


def test_every_entry_says_what_to_do():
    for entry in re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]:
        assert "**Do:**" in entry, entry.splitlines()[0]
