"""GitHub's proof of which job runs: the OIDC token that a job gets for our audience, checked for one source.

Everybody on github.com can ask for a token with our audience, so the table of requirements ties a token to the source's
own organisation, repository or enterprise. A token counts for one runner, however often that runner shows it.

Source: GitHub Docs, OpenID Connect reference.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.identity.replay import ReplayStore
from orchestrator.identity.verify import CallerIssuerConfig, CallerVerifier
from orchestrator.model.runner import RunnerName

JOB_CLAIMS: Final = (
    "actor",
    "actor_id",
    "base_ref",
    "check_run_id",
    "environment",
    "event_name",
    "head_ref",
    "job_workflow_ref",
    "ref",
    "ref_protected",
    "ref_type",
    "repository",
    "repository_id",
    "repository_owner",
    "repository_owner_id",
    "repository_visibility",
    "run_attempt",
    "run_id",
    "sha",
    "workflow",
    "workflow_ref",
    "workflow_sha",
)
"""What is read of a token; the rest does not exist for us. `sub` is not among them: organisations can reshape it."""

MAX_AGE_SECONDS: Final = 900.0
"""GitHub's tokens live 5 minutes, and the hook fetches its own at once."""

_NUMBER: Final = "[1-9][0-9]{0,18}"


@dataclass(frozen=True, slots=True)
class GitHubOidcConfig:
    """Whose jobs. `owner` is an organisation's or user's login, `repository` narrows it to one of its repositories,
    `enterprise` is an enterprise's slug; either `owner` or `enterprise` is given.

    `audience` must be this installation's own: a token made for another program could otherwise be shown here.
    """

    issuer: str
    audience: str
    owner: str = ""
    repository: str = ""
    enterprise: str = ""
    jwks_file: Path | None = None
    ssl_context: ssl.SSLContext | None = None
    proxy: str = ""

    def required(self) -> dict[str, str]:
        """Claim to pattern. Logins and names are compared without case, as GitHub does.

        Raises:
            ConfigurationError: neither owner nor enterprise: anybody's job would do.
        """
        table = {
            "runner_environment": "self-hosted",
            "run_id": _NUMBER,
            "run_attempt": _NUMBER,
            "repository_id": _NUMBER,
            "repository_owner_id": _NUMBER,
        }
        if self.enterprise:
            table["enterprise"] = f"(?i:{re.escape(self.enterprise)})"
        elif self.owner and self.repository:
            table["repository"] = f"(?i:{re.escape(self.owner)}/{re.escape(self.repository)})"
        elif self.owner:
            table["repository_owner"] = f"(?i:{re.escape(self.owner)})"
        else:
            raise ConfigurationError("GitHub's tokens need an owner or an enterprise that they must be of")
        return table


class GitHubJobTokens:
    """Verifies job tokens of one source; close it at shutdown. Clocks and `replay` as for `CallerVerifier`.

    Raises:
        ConfigurationError: as `CallerVerifier`, and for a configuration that would trust anybody.
    """

    def __init__(
        self,
        config: GitHubOidcConfig,
        *,
        replay: ReplayStore,
        clock_ns: Callable[[], int],
        monotonic: Callable[[], float],
    ) -> None:
        row = CallerIssuerConfig(
            issuer=config.issuer,
            audience=config.audience,
            require=config.required(),
            facts={claim: claim for claim in JOB_CLAIMS},
            algorithms=("RS256",),
            jwks_file=config.jwks_file,
            max_age_seconds=MAX_AGE_SECONDS,
            ssl_context=config.ssl_context,
            proxy=config.proxy,
        )
        self._verifier = CallerVerifier((row,), local=None, replay=replay, clock_ns=clock_ns, monotonic=monotonic)

    async def verify(self, token: str, runner: RunnerName) -> Mapping[str, str]:
        """The job's claims by their own names, all as text; those that the token lacks are left out.

        Raises:
            CallerRefusedError: with the reason; `token_replayed` when another runner has shown this token.
            TryAgainError: `issuer_unreachable`, `replay_store_full`, `replay_store_unwritable`.
        """
        return (await self._verifier.verify(token, runner)).facts

    async def close(self) -> None:
        await self._verifier.close()
