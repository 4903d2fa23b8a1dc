"""What operators may ask of the daemon itself, as the server needs it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from orchestrator.model.job import Caller


class OperatingDesk(Protocol):
    """Answers are JSON's types; see `operating_shapes`."""

    async def reload(self, caller: Caller) -> Mapping[str, Any]:
        """Read settings and rules again, in the caller's name. See `ReloadView`. What is refused is in the answer.

        Raises:
            GiveUpError: reason `daemon_stopping`.
        """
        ...

    def draining(self) -> Mapping[str, Any]:
        """See `DrainView`. Must not block."""
        ...

    async def drain(self, caller: Caller, limit_seconds: float | None) -> Mapping[str, Any]:
        """Begin no job any more; after the limit, cancel those that run. Again sets another limit. See `DrainView`.

        Raises:
            TryAgainError: it cannot be recorded who asks; nothing has changed.
        """
        ...

    async def resume(self, caller: Caller) -> Mapping[str, Any]:
        """Begin jobs again; without effect where nothing is drained. See `DrainView`.

        Raises:
            GiveUpError: reason `daemon_stopping`.
            TryAgainError: as for `drain`.
        """
        ...
