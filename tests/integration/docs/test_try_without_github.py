"""The page on trying GitHub's jobs without GitHub can be done as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from walkthrough import PROJECT, Walk, environment, follow

from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(180)]

PAGE = PROJECT / "docs" / "how-to" / "try-without-github.md"


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A reader's folder and shell; folder and ports are not those of the page."""
    folder = tmp_path / "try-github"
    folder.mkdir()
    shell = environment(tmp_path, ORCHESTRATOR_SERVER__PORT=str(free_port()))
    walk = Walk(folder, shell, {"8085": str(free_port()), "/tmp/try-github": str(folder)})
    yield walk
    walk.end()


def test_every_step_prints_what_the_page_shows(walk):
    assert follow(walk, PAGE.read_text(encoding="utf-8")) > 12
    assert walk.daemon is None, "the page ends with the daemon stopped"
