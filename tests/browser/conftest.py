"""A real browser at a real daemon. Not part of `make test`: the browser's driver comes from a package registry first.

What a page logs as an error, throws, or is forbidden by its own policy fails the test that looked at it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

try:
    from playwright.sync_api import Browser
except ImportError as error:
    raise pytest.UsageError(
        f"the browser's driver is not here ({error}); run these tests by make test-browser"
    ) from None

from sight import Sight, launched
from stage import Stage


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with launched() as started:
        yield started


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One daemon for all who only add jobs of their own."""
    with Stage(tmp_path_factory.mktemp("stage")) as made:
        yield made


@pytest.fixture
def own_stage(tmp_path: Path) -> Iterator[Callable[..., Stage]]:
    """Daemons that a test has for itself, with settings of its own."""
    with ExitStack() as stack:

        def start(**settings: Any) -> Stage:
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            return stack.enter_context(Stage(folder, **settings))

        yield start


@pytest.fixture
def look(browser: Browser) -> Iterator[Callable[..., Sight]]:
    """Opens a page; what is wrong with it fails the test."""
    opened: list[Sight] = []

    def open_(stage: Stage, **how: Any) -> Sight:
        opened.append(Sight(browser, stage, **how))
        return opened[-1]

    yield open_
    for sight in opened:
        sight.close()
    assert [fault for sight in opened for fault in sight.faults] == []
