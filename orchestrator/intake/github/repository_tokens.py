"""Installation tokens made for jobs: each good in one repository and for named permissions, and ended before its time.

Source: GitHub REST API, "Create an installation access token for an app" and "Revoke an installation access token".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from orchestrator.errors import ConfigurationError
from orchestrator.intake.github.answers import Answer
from orchestrator.intake.github.connection import AppCredential, GitHubConnection, Timing
from orchestrator.intake.github.errors import UnauthorizedError
from orchestrator.intake.github.fields import Fields, read_object
from orchestrator.intake.github.rest.protocol import end_installation_token, installation_token
from orchestrator.intake.github.scale_sets.protocol import Repeat
from orchestrator.intake.github.tokens import MAX_TOKEN, sendable
from orchestrator.intake.github.transport import Transport

_ALWAYS_GIVEN: Final = {"metadata": "read"}
"""GitHub adds it to every installation token."""


@dataclass(frozen=True, slots=True)
class RepositoryToken:
    """`expires_at` is GitHub's word, in Unix seconds. `narrow` is whether it is good for no more than was asked for."""

    token: str = field(repr=False)
    expires_at: int
    narrow: bool


class RepositoryTokens:
    """One App's installation, asked on behalf of jobs. `close` when done.

    Raises:
        ConfigurationError: the connection is not an App's.
    """

    def __init__(self, connection: GitHubConnection, timing: Timing | None = None) -> None:
        if not isinstance(connection.credential, AppCredential):
            raise ConfigurationError("tokens for jobs are an App's to make", reason="github_app_unfit")
        self._app = connection.credential
        self._transport = Transport(connection, timing or Timing())

    async def make(self, repository_id: int, permissions: Mapping[str, str]) -> RepositoryToken:
        """A token for this one repository. Not repeated once it may have been made: each call makes another one.

        One that is not `narrow` is not to be used, and still has to be ended.

        Raises:
            GitHubError: none is known to exist, unless `UnavailableError.may_have_done(MAKING)`.
            TryAgainError: `secret_file_unusable`, `github_app_key_unusable`; none was made.
        """
        narrowed = replace(self._app, repositories=(), repository_ids=(repository_id,), permissions=permissions)
        request = replace(installation_token(self._transport.connection.url, narrowed), repeat=Repeat.UNSENT)

        def read(answer: Answer) -> RepositoryToken:
            return _read(answer, repository_id, permissions)

        return await self._transport.call(request, f"Bearer {self._app.sign()}", read)

    async def end(self, token: str) -> None:
        """Have GitHub refuse the token from now on. One that it does not know any more is fine.

        Raises:
            GitHubError: it may still be good.
        """
        request = end_installation_token(self._transport.connection.url)
        try:
            await self._transport.call(request, f"Bearer {token}", lambda _answer: None)
        except UnauthorizedError:
            return

    async def close(self) -> None:
        await self._transport.close()


MAKING: Final = "installation_token"
"""The endpoint's word in errors of `RepositoryTokens.make`."""


def _read(answer: Answer, repository_id: int, permissions: Mapping[str, str]) -> RepositoryToken:
    data = read_object(answer.body)
    token, ends = data.text("token", MAX_TOKEN), data.time_ns("expires_at")
    data.need("token", sendable(token))
    data.need("expires_at", ends is not None)
    assert ends is not None, "it was needed"
    narrow = _is_narrow(data, repository_id, permissions)
    return RepositoryToken(token, ends // 1_000_000_000, narrow)


def _is_narrow(data: Fields, repository_id: int, permissions: Mapping[str, str]) -> bool:
    """Whether GitHub says that the token is for this repository alone and for no further permission."""
    ids = [item.get("id") for item in data.items("repositories") if isinstance(item, dict)]
    allowed = {**_ALWAYS_GIVEN, **permissions}.items()
    narrow = data.table("permissions").items() <= allowed
    return narrow and data.text("repository_selection") == "selected" and ids == [repository_id]
