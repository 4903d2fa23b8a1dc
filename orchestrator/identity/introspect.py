"""Tells relying parties whether a token of ours still counts (RFC 7662).

There is no table of tokens to keep: a job's tokens are as alive as its record, so they are inactive
from the moment its end is recorded, and after a restart of the daemon too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName

_INACTIVE: Final[Mapping[str, Any]] = {"active": False}


class Opener(Protocol):
    """One issuer, or all of ours (`issuers.IssuerSet`)."""

    def open(self, token: str) -> Mapping[str, Any] | None: ...


class Introspection:
    """For the tokens of all our issuers, told apart by `iss`: who asks has to look at it, as at the audience.

    `bound_record` gives the running job that is bound to exactly this runner, or None.
    """

    def __init__(self, issuers: Opener, bound_record: Callable[[RunnerIdentity], Record | None]) -> None:
        self._issuers = issuers
        self._bound_record = bound_record

    async def introspect(self, token: str) -> dict[str, Any]:
        """RFC 7662 section 2.2. Anything but a live token of a live job is `{"active": false}` and no more.

        Caller tokens are inactive here as well: no third party has business with them.
        """
        claims = self._issuers.open(token)
        if claims is None or "job_id" not in claims:
            return dict(_INACTIVE)
        record = self._bound_record(RunnerIdentity(RunnerName(claims["runner"]), claims["runner_uid"]))
        if record is None or not record.live or record.id != claims["job_id"]:
            return dict(_INACTIVE)
        return {**claims, "active": True, "token_type": "N_A"}
