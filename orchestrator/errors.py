"""The one base of our errors and its two families: *try again* and *give up*.

Whoever meets the outside world decides the family there, from status codes and error types, never from
the words of a message. Everything above only looks at the family and at `reason`.
"""

from __future__ import annotations


class OrchestratorError(Exception):
    """Base of every error this program raises on purpose.

    `reason` is a stable machine word (`snake_case`) that appears in API answers, facts and metrics;
    `fix` says to a person what to do about it. Neither may ever hold a secret.
    """

    reason: str = "internal_error"
    fix: str = ""

    def __init__(self, message: str, *, reason: str | None = None, fix: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason
        if fix is not None:
            self.fix = fix

    def diagnostics(self) -> str:
        """The message and, where there is one, the way out; one line each."""
        return f"{self}\n  fix: {self.fix}" if self.fix else str(self)


class TryAgainError(OrchestratorError):
    """The same call may succeed later; `retry_after_seconds` is the other side's wish, if it named one."""

    reason = "temporarily_unavailable"

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        fix: str | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message, reason=reason, fix=fix)
        self.retry_after_seconds = retry_after_seconds


class GiveUpError(OrchestratorError):
    """Repeating the call cannot help."""

    reason = "refused"


class ConfigurationError(GiveUpError):
    """Settings, a policy bundle or the machine are not fit to start with."""

    reason = "configuration_invalid"
