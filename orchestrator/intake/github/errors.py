"""What can go wrong between us and GitHub, by family and reason. Classes only; `answers` decides which one it is."""

from __future__ import annotations

from dataclasses import dataclass

from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError


@dataclass(frozen=True, slots=True)
class FailedCall:
    """Which call it was. `status` is 0 without an answer; `request_id` is GitHub's own, for their support."""

    method: str
    endpoint: str
    status: int = 0
    request_id: str = ""

    def __str__(self) -> str:
        said = f"answered {self.status}" if self.status else "got no answer"
        trace = f" [{self.request_id}]" if self.request_id else ""
        return f"{self.method} {self.endpoint} {said}{trace}"


class GitHubError(OrchestratorError):
    """Base of what the clients raise besides `ConfigurationError`; every one is also of one of the two families."""

    call: FailedCall | None = None


class UnavailableError(GitHubError, TryAgainError):
    """No answer, a cut one, or a server's failure. Whether the call took effect is not known unless `unsent`."""

    reason = "github_unavailable"
    fix = "see whether GitHub and the way to it (proxy, firewall, DNS) work"
    unsent = False
    """True when the server certainly did nothing: no connection was made."""

    def may_have_done(self, endpoint: str) -> bool:
        """Whether it is this call that failed, not one for a token that it needs, and may have taken effect."""
        return not self.unsent and self.call is not None and self.call.endpoint == endpoint


class UnreadableAnswerError(UnavailableError):
    """An answer of success that cannot be what it should be."""

    reason = "github_answer_unreadable"
    fix = "something between here and GitHub may change answers; if not, report it with the request id"


class RegistrationRefusedError(UnavailableError):
    """The Actions service does not know a fresh registration token; for a moment after it was made that is usual."""

    reason = "github_registration_refused"
    fix = "if it lasts: check that the URL names what the App is installed on, or the token may manage"


class RateLimitedError(GitHubError, TryAgainError):
    """The limit is used up; nothing of this kind is sent before `retry_after_seconds` have passed."""

    reason = "github_rate_limited"
    fix = "wait; if it recurs, use a GitHub App instead of a personal token, or fewer sources per installation"


class UnauthorizedError(GitHubError, TryAgainError):
    """401 although the token was fetched anew. Tried again: keys and tokens are replaced while we run."""

    reason = "github_unauthorized"
    fix = "check the App's id, installation and private key, or the personal token, and this machine's clock"


class SessionConflictError(GitHubError, TryAgainError):
    """409: another session of this scale set is active; it may be our own former one."""

    reason = "github_session_conflict"
    fix = "wait; if it lasts, another program listens on this scale set: stop it, or give the set another name"


class SessionGoneError(GitHubError, TryAgainError):
    """The session ended, was lost by the service, or cannot be used: make a new one."""

    reason = "github_session_gone"


class ScaleSetGoneError(GitHubError, TryAgainError):
    """The scale set was deleted; ensure it again."""

    reason = "github_scale_set_gone"


class RunnerExistsError(GitHubError, TryAgainError):
    """The runner's name is taken; ask again under a fresh one."""

    reason = "github_runner_exists"


class JitConfigLostError(GitHubError, TryAgainError):
    """The answer to a registration was lost; what was found of it is removed. Take a fresh name."""

    reason = "github_jit_config_lost"


class BusyError(GitHubError, TryAgainError):
    """The runner has a job and cannot be removed now."""

    reason = "github_runner_busy"


class ForbiddenError(GitHubError, GiveUpError):
    """403: a permission is missing."""

    reason = "github_forbidden"
    fix = "give the App or token the permissions of the GitHub guide, and accept them for the installation"


class NotFoundError(GitHubError, GiveUpError):
    """404 of something that is no scale set, session or runner; GitHub also hides what we may not see this way."""

    reason = "github_not_found"
    fix = "check the name, and that the App is installed there with the permissions of the GitHub guide"


class RefusedError(GitHubError, GiveUpError):
    """Any other refusal for good: the request was wrong."""

    reason = "github_refused"


class RunnerGroupUnknownError(GitHubError, GiveUpError):
    """There is no runner group of this name that we may see."""

    reason = "github_runner_group_unknown"
    fix = "make the runner group, or correct `group`; the default one is called Default"


class RepositoryMovedError(GitHubError, GiveUpError):
    """301: the repository has another name now."""

    reason = "github_repository_moved"


class CommitUnknownError(GitHubError, GiveUpError):
    """The repository has no such commit."""

    reason = "github_commit_unknown"
    fix = "push the commit that the artifact was built from to the repository, and build again from there"
