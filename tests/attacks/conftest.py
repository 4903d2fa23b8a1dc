"""Fixtures of the attack suite: a daemon as in production, a platform, and a book of what failed."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "acceptance")]

import evidence
from installation import Installation
from issuer import Platform
from site_under_attack import POLICY, Site, policy_bundle
from threats import THREATS
from witness import Witness

from orchestrator.testing.otlp import OtlpReceiver

_rows: list[evidence.Row] = []
Prove = Callable[..., None]


@pytest.fixture
def failed(request: pytest.FixtureRequest) -> Iterator[Prove]:
    """`failed(threat, attack, stopped_by=…, seen_by=…)`: an attack that did not get through, once the test passes."""
    rows: list[evidence.Row] = []
    test = f"{request.path.stem}::{request.function.__name__}"

    def note(threat: str, attack: str, *, stopped_by: str, seen_by: str) -> None:
        assert threat in {one.id for one in THREATS}
        rows.append(evidence.Row(threat, attack, stopped_by, seen_by, test))

    yield note
    assert rows, "an attack that is not in the table was not worth playing"
    _rows.extend(rows)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """A whole run that passed is what the page is written from."""
    if _rows:
        evidence.write(_rows, evidence.ROWS)


@pytest.fixture
async def witness() -> AsyncIterator[Witness]:
    async with Witness() as witness:
        yield witness


@pytest.fixture
async def receiver() -> AsyncIterator[OtlpReceiver]:
    async with OtlpReceiver() as receiver:
        yield receiver


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    return Platform(tmp_path)


@pytest.fixture
async def build(
    tmp_path: Path, witness: Witness, platform: Platform, receiver: OtlpReceiver
) -> AsyncIterator[Callable[..., Site]]:
    """Make sites; `settings` replace whole top-level keys. At the end nothing of them may be left."""
    made: list[Site] = []

    def make(**settings: Any) -> Site:
        folder = tmp_path / f"site-{len(made)}"
        installation = Installation(folder, witness, otlp=receiver.endpoint)
        site = Site(installation, platform, witness, receiver)
        rules = settings.pop("rules", POLICY)
        site.configure(policy_bundle(folder / "policy", rules), settings)
        made.append(site)
        return site

    yield make
    for site in made:
        await site.close()
    assert [line for site in made for line in await site.installation.left()] == []


@pytest.fixture
async def site(build: Callable[..., Site]) -> Site:
    """A running daemon with an untrusted, a standard and a protected pool."""
    made = build()
    await made.installation.start()
    return made
