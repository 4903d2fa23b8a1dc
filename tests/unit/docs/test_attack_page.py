"""The page of attacks names tests that exist, every attack test stands on it, and each threat is answered somewhere."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ATTACKS = ROOT / "tests" / "attacks"
PAGE = (ROOT / "docs" / "explanation" / "attack-results.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (T\d+) \|.*\| `(test_\w+)::(test_\w+)` \|$", PAGE, re.MULTILINE)


@pytest.fixture(scope="module")
def threats():
    specification = importlib.util.spec_from_file_location("attack_threats", ATTACKS / "threats.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    yield module.THREATS
    del sys.modules[specification.name]


def written() -> set[tuple[str, str]]:
    return {
        (path.stem, name)
        for path in ATTACKS.glob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def test_the_page_shows_every_attack_and_no_other():
    assert {(module, name) for _, module, name in ROWS} == written()


def test_each_threat_is_played_somewhere_or_says_why_not(threats):
    played = {threat for threat, _, _ in ROWS}
    for threat in threats:
        assert threat.id in played or threat.elsewhere or threat.open_part, f"{threat.id} is answered by nothing"
        assert f"| {threat.id} | {threat.stride} | {threat.title} |" in PAGE
        assert [path for path in threat.elsewhere if not (ROOT / path).exists()] == []
