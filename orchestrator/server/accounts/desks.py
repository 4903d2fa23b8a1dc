"""What the API asks about secrets, credentials and scores. Answers are JSON's types; see `account_shapes`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from orchestrator.model.job import Caller


class SecretDesk(Protocol):
    """Registered secrets: everything but their values."""

    async def listed(self) -> Sequence[Mapping[str, Any]]:
        """See `account_shapes.SecretView`."""
        ...

    async def rotate(self, name: str, caller: Caller, *, at_once: bool) -> Mapping[str, Any]:
        """Begin to make a new value, in the caller's name.

        GiveUpError `secret_unknown`, `secret_retired`, `secret_not_rotatable`; TryAgainError `secret_old_in_use`,
        `audit_unavailable`, `keys_unavailable`.
        """
        ...

    async def retire(self, name: str, caller: Caller) -> Mapping[str, Any]:
        """GiveUpError `secret_unknown`; TryAgainError `audit_unavailable`, `keys_unavailable`."""
        ...

    async def retire_pipeline(self, pipeline: str, caller: Caller) -> Sequence[str]:
        """The names of the secrets that go with it; TryAgainError as for `retire`."""
        ...


class Books(Protocol):
    """What is counted and found."""

    async def inventory(self) -> Mapping[str, Any]:
        """See `account_shapes.CredentialsView`."""
        ...

    async def scorecard(self) -> Mapping[str, Any]:
        """See `account_shapes.ScorecardView`."""
        ...
