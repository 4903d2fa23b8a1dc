"""Keeps the counts behind the four metrics, and puts the scorecard together from them and from what is in force."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.errors import TryAgainError
from orchestrator.model.events import Fact
from orchestrator.policy.files import Bundle
from orchestrator.private_file import damaged, read_private_file, write_private_file
from orchestrator.telemetry.scores.follow import Follower
from orchestrator.telemetry.scores.metrics import count_artifact
from orchestrator.telemetry.scores.tally import MAX_BYTES, DayTally

_log = logging.getLogger("orchestrator")

_CODES: Final = re.compile(r"^codes := \{([^}]*)\}", re.MULTILINE)
_CODE: Final = re.compile(r'"([a-z][a-z0-9_]{0,63})"')

ArtifactLookup = Callable[[str], Awaitable[Mapping[str, Any] | None]]


class ScoreKeeper:
    """The counts, in a file of the state folder that is written every now and then: a crash loses the last of them, and
    nothing rests on them. `artifact` tells what is verified about a digest."""

    def __init__(self, path: Path, tally: DayTally, artifact: ArtifactLookup) -> None:
        self._path = path
        self._artifact = artifact
        self.tally = tally
        self.follower = Follower(tally)

    @classmethod
    def open(cls, path: Path, artifact: ArtifactLookup, now_ns: int) -> ScoreKeeper:
        """
        Raises:
            ConfigurationError: reason `keys_unsafe` or `keys_corrupt`.
            TryAgainError: reason `keys_unavailable`.
        """
        try:
            tally = DayTally.read(read_private_file(path, MAX_BYTES), now_ns)
        except ValueError:
            raise damaged(path, "counting for the scorecard begins anew") from None
        return cls(path, tally, artifact)

    def observe(self, facts: Sequence[Fact]) -> None:
        """For `journal.subscribe`."""
        self.follower.observe(facts)

    async def upkeep(self) -> None:
        """Look up what was made since the last turn, and store the counts if they changed."""
        made, self.follower.made = self.follower.made, []
        for one in made:
            for digest in one.digests:
                count_artifact(self.tally, one.at_ns, await self._artifact(digest), deployed=one.deployed)
        await self.store()

    async def store(self) -> None:
        """What the disk refuses is left to the next turn."""
        if not self.tally.changed:
            return
        self.tally.changed = False
        document = self.tally.encode()
        try:
            await asyncio.to_thread(write_private_file, self._path, document)
        except TryAgainError as error:
            self.tally.changed = True
            _log.warning("the scorecard's counts are not stored: %s", error)


def rule_modes(bundle: Bundle) -> dict[str, str] | None:
    """Each environment's rules by code, to *enforce* or *observe*, where a bundle says which there are as the shipped
    one does: sets called `codes`, and `modes` in the data of each environment. None where it does not."""
    codes = {
        code for module in bundle.modules for found in _CODES.findall(module.text) for code in _CODE.findall(found)
    }
    environments = bundle.data.get("environments")
    if not codes or not isinstance(environments, Mapping):
        return None
    found: dict[str, str] = {}
    for name, given in environments.items():
        modes = given.get("modes") if isinstance(given, Mapping) else None
        watched = {code for code, mode in modes.items() if mode == "observe"} if isinstance(modes, Mapping) else set()
        found |= {f"{name} {code}": "observe" if code in watched else "enforce" for code in sorted(codes)}
    return found
