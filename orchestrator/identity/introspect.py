"""Tells relying parties whether a token of ours still counts (RFC 7662).

There is no table of tokens to keep: a job's tokens are as alive as its record, so they are inactive
from the moment its end is recorded, and after a restart of the daemon too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from orchestrator.identity.issuer import Issuer
from orchestrator.model.job import JobId
from orchestrator.model.record import Record

_INACTIVE: Final[Mapping[str, Any]] = {"active": False}


class Introspection:
    """`record_of_job` gives the record of an unfinished job, or None."""

    def __init__(self, issuer: Issuer, record_of_job: Callable[[JobId], Record | None]) -> None:
        self._issuer = issuer
        self._record_of_job = record_of_job

    async def introspect(self, token: str) -> dict[str, Any]:
        """RFC 7662 section 2.2. Anything but a live token of a live job is `{"active": false}` and no more.

        Caller tokens are inactive here as well: no third party has business with them.
        """
        claims = self._issuer.open(token)
        if claims is None or not isinstance(claims.get("job_id"), str):
            return dict(_INACTIVE)
        record = self._record_of_job(JobId(claims["job_id"]))
        if record is None or not record.live or record.bound_uid != claims.get("runner_uid"):
            return dict(_INACTIVE)
        return {**claims, "active": True, "token_type": "N_A"}
