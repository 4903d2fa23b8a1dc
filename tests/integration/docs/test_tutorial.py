"""The tutorial can be done as it stands: every file, change and command of it, against the real program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from walkthrough import PROJECT, Walk, commands, environment, follow, plain

from orchestrator.testing.ports import free_port

pytestmark = [pytest.mark.sandbox, pytest.mark.slow, pytest.mark.timeout(180)]

PAGE = PROJECT / "docs" / "tutorial" / "first-job.md"


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    """A newcomer's folder and shell; only the ports are not those of the page."""
    folder = tmp_path / "first-job"
    folder.mkdir()
    # One port for all starts: under another URL the daemon is another builder, and trusts no earlier artifact.
    shell = environment(tmp_path, ORCHESTRATOR_SERVER__PORT=str(free_port()))
    walk = Walk(folder, shell, {"8000": str(free_port())})
    yield walk
    walk.end()


def test_every_step_prints_what_the_page_shows(walk):
    assert follow(walk, PAGE.read_text(encoding="utf-8")) > 20
    assert walk.daemon is None, "the tutorial ends with the daemon stopped"


def test_a_page_that_shows_something_else_is_found_out(walk):
    (command,) = commands("$ echo two\none\n")
    assert [plain(line) for line in walk.perform(command)] != [plain(line) for line in command.shown]
