"""A server for each test."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from orchestrator.testing.github.clock import GitHubClock
from orchestrator.testing.github.model import Flavour, Options
from orchestrator.testing.github.server import GitHubServer

sys.path.append(str(Path(__file__).parent))

from platform_clients import Listener


@pytest.fixture
def options() -> Options:
    return Options(poll_hold=5)


@pytest.fixture
def ghes_options(options: Options) -> Options:
    options.flavour = Flavour.GHES
    return options


@pytest.fixture
async def github(options: Options) -> AsyncIterator[GitHubServer]:
    async with GitHubServer(options, clock=GitHubClock()) as server:
        server.add_repository("acme/shop", branches={"main": True, "next": False})
        yield server


@pytest.fixture
async def listener(github: GitHubServer) -> AsyncIterator[Listener]:
    async with aiohttp.ClientSession() as http:
        made = Listener(github, http)
        await made.connect()
        yield made
