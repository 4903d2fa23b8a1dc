"""What the server needs of approvals and exceptions, and who it may find at its door besides callers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiohttp import web

from orchestrator.model.job import Caller
from orchestrator.model.record import Record


@dataclass(frozen=True, slots=True)
class ShownPerson:
    """Somebody who showed a token of an issuer for people. They are no caller: they dispatch nothing."""

    caller: Caller
    token: str = field(repr=False)


class ApprovalDesk(Protocol):
    """Takes in what people sign, and shows it. Answers are JSON's types.

    GiveUpError `approvals_not_configured` from all but `person`, where there is no approvers' file.
    """

    async def person(self, token: str) -> ShownPerson | None:
        """Who a token of an issuer for people shows; None for any other token. GiveUpError `token_*`: it is no good."""
        ...

    async def submit(self, text: str, who: Caller | ShownPerson) -> tuple[Mapping[str, Any], bool]:
        """Take a DSSE envelope; see `approval_shapes.ApprovalView`, and whether anything in it is new.

        GiveUpError `approval_*`; TryAgainError `approvals_full`, `approvals_unavailable`, `audit_unavailable`.
        """
        ...

    def listed(self, wanted: Mapping[str, str], limit: int) -> Sequence[Mapping[str, Any]]:
        """The newest objects that have these members; see `approval_shapes.ApprovalLineView`. Must not block."""
        ...

    async def shown(self, name: str, job: Record | None) -> Mapping[str, Any]:
        """One object, and whether it counts for the job; see `approval_shapes.ApprovalView`.

        GiveUpError `approval_unknown`.
        """
        ...

    async def revoke(self, name: str, reason: str, caller: Caller) -> Mapping[str, Any]:
        """End it for ever, in an operator's name; again is without effect.

        GiveUpError `approval_unknown`; TryAgainError `approvals_unavailable`, `audit_unavailable`.
        """
        ...


PERSON = web.RequestKey("person", ShownPerson)
"""The person of a request to an operation for people; absent when a caller asks."""
