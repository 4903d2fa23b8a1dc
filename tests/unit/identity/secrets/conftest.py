"""A place that a secret opens, played by a folder, and an owner's hook for it that really runs."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestrator.identity.secrets.registry import Hook, Registered
from orchestrator.identity.secrets.rotation import Rotations
from orchestrator.identity.secrets.state import StateStore

HOOK = Path(__file__).with_name("hook.py")
FIRST = "first-value-of-the-key"
DAY = 86400


class Place:
    """`works` are the values that open it now; `asked` what its hook was told, in order."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.put(FIRST)

    def put(self, *values: str) -> None:
        (self.folder / "works.json").write_text(json.dumps(values))

    @property
    def works(self) -> list[str]:
        return list(json.loads((self.folder / "works.json").read_text()))

    @property
    def asked(self) -> list[dict[str, Any]]:
        log = self.folder / "asked"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    def behave(self, *how: str) -> None:
        """From now on the hook does as these words of `hook.py` say."""
        (self.folder / "how").write_text("\n".join(how))

    def hook(self, timeout_seconds: float = 20) -> Hook:
        return Hook((sys.executable, "-I", "-S", str(HOOK), str(self.folder)), timeout_seconds)


class Clock:
    def __init__(self) -> None:
        self.seconds = 2_000_000_000

    def __call__(self) -> int:
        return self.seconds * 1_000_000_000


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "place")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> StateStore:
    return StateStore(tmp_path / "secrets")


@pytest.fixture
def rotations(store: StateStore, clock: Clock) -> Rotations:
    return Rotations(store, clock)


@pytest.fixture
def secret(tmp_path: Path, place: Place) -> Registered:
    file = tmp_path / "deploy-key"
    file.write_text(FIRST)
    file.chmod(0o400)
    bare = Registered("deploy-key", "team-a", max_age_seconds=90 * DAY, idle_seconds=30 * DAY, pools=("default",))
    return replace(bare, file=file, rotate=place.hook(), remove=place.hook(), rotate_seconds=30 * DAY)
