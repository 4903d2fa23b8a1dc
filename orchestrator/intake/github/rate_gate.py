"""Holding requests back while a limit lasts, instead of asking GitHub again and again and being punished for it."""

from __future__ import annotations

from orchestrator.intake.github.answers import Answer, rate_limit_of, seconds_to
from orchestrator.intake.github.connection import Timing
from orchestrator.intake.github.errors import FailedCall, RateLimitedError
from orchestrator.intake.github.scale_sets.protocol import Credential, Request
from orchestrator.intake.github.stats import CallStats

SECONDARY_WAIT = 60.0
"""Least wait in seconds after a limit that names no time; it doubles with each one in a row."""
LONGEST_STRIKE = 900.0
_REST = frozenset({Credential.APP, Credential.ACCESS, Credential.REGISTRATION})
_Key = tuple[Credential, str]


class RateGate:
    """Limits by kind of token and resource; the Actions service and its queue have no published ones and pass."""

    def __init__(self, timing: Timing, stats: CallStats) -> None:
        self._timing = timing
        self._stats = stats
        self._resources: dict[str, str] = {}
        self._until: dict[_Key, float] = {}
        self._strikes: dict[_Key, int] = {}

    def check(self, request: Request) -> None:
        """Raises: RateLimitedError, while the limit of such requests lasts; nothing is sent."""
        if request.credential not in _REST or request.endpoint == "rate_limit":
            return
        left = self._until.get(self._key(request), 0.0) - self._timing.monotonic()
        if left > 0:
            error = RateLimitedError(
                f"{request.method} {request.endpoint} is held back: the rate limit is used up", retry_after_seconds=left
            )
            error.call = FailedCall(request.method, request.endpoint)
            raise error

    def passed(self, request: Request, answer: Answer) -> None:
        """An answer came: note what is left."""
        if request.credential not in _REST:
            return
        bucket = rate_limit_of(answer.headers)
        if bucket is not None:
            self._resources[request.endpoint] = bucket.resource
            if request.credential is not Credential.REGISTRATION:
                self._stats.limit(bucket)
            if bucket.remaining == 0:
                self._hold(request, seconds_to(bucket.resets_at, self._timing.now()))
        if answer.ok:
            self._strikes.pop(self._key(request), None)

    def refused(self, request: Request, error: RateLimitedError) -> None:
        """A limit was hit. One that names no time grows with each refusal in a row."""
        if request.credential not in _REST:
            return
        if error.retry_after_seconds is None:
            key = self._key(request)
            strikes = self._strikes[key] = self._strikes.get(key, 0) + 1
            error.retry_after_seconds = min(SECONDARY_WAIT * 2 ** min(strikes - 1, 8), LONGEST_STRIKE)
        self._hold(request, error.retry_after_seconds)

    def _hold(self, request: Request, seconds: float) -> None:
        key = self._key(request)
        self._until[key] = max(self._until.get(key, 0.0), self._timing.monotonic() + seconds)

    def _key(self, request: Request) -> _Key:
        return request.credential, self._resources.get(request.endpoint, "core")
