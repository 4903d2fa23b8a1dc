"""Fixtures of the acceptance tests: the program is only ever started as a process and driven from outside."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from github_site import GitHubSite, github_server
from installation import Installation
from witness import Witness

from orchestrator.testing.github.server import GitHubServer
from orchestrator.testing.otlp import OtlpReceiver
from orchestrator.testing.ports import free_port


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    async with Witness() as witness:
        yield witness


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
async def installed(tmp_path: Path, witness: Witness) -> AsyncIterator[Callable[..., Installation]]:
    """Make installations; at the end of the test their daemons are ended and nothing of them may be left."""
    made: list[Installation] = []

    def install(**settings: object) -> Installation:
        made.append(Installation(tmp_path / f"installation-{len(made)}", witness, **settings))
        return made[-1]

    yield install
    for installation in made:
        await installation.close()
    assert [line for installation in made for line in await installation.left()] == []


@pytest.fixture
async def here(installed: Callable[..., Installation], receiver: OtlpReceiver) -> Installation:
    """An installation whose traces go to `receiver`, with no daemon yet."""
    return installed(otlp=receiver.endpoint)


@pytest.fixture
async def github() -> AsyncIterator[GitHubServer]:
    async with github_server(free_port()) as server:
        yield server


@pytest.fixture
def site(github: GitHubServer, installed: Callable[..., Installation], witness: Witness) -> GitHubSite:
    """An installation that listens to `github`, with no daemon yet."""
    return GitHubSite(installed(), github, witness)
