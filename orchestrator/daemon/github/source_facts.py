"""What GitHub says of the commit behind an artifact: `policy.lookups.SourceLookup` over configured GitHub sources.

Which commit that is, our own provenance of record says; where there is none, the one repository and commit that all
provenance of others agrees on. Asked with connections of its own, so that a missing permission stops no source of jobs.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.github import slice as github_slice
from orchestrator.errors import ConfigurationError, OrchestratorError, TryAgainError
from orchestrator.evidence.provenance import timestamp
from orchestrator.intake.asked_once import AskedOnce
from orchestrator.intake.github.commits.facts import CommitFacts, CommitFinder, CommitPlace, CommitRules
from orchestrator.intake.github.commits.protocol import READS, READS_COMMITS
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import AppCredential, GitHubConnection
from orchestrator.intake.github.urls import GitHubUrl
from orchestrator.policy.lookups import Facts, Question
from orchestrator.settings import Settings
from orchestrator.settings.commits import CommitSettings
from orchestrator.settings.github import GitHubSettings

log = logging.getLogger("orchestrator.daemon.github.source_facts")

FROM: Final = "github"
MAX_TEXT: Final = 512
_GIT: Final = ("https", "git+https", "http", "git+http")


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an artifact comes from: by whose word (`issuer`), or at which host (`host`) where a URL says it."""

    place: CommitPlace
    issuer: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One GitHub, and whose callers' facts name its commits."""

    finder: CommitFinder
    url: GitHubUrl
    issuers: frozenset[str]

    def answers_for(self, origin: Origin) -> bool:
        hosts = (self.url.host, self.url.host.removeprefix("www."))
        known = origin.issuer in self.issuers if origin.issuer else origin.host in hosts
        return known and self.finder.covers(origin.place.repository)


@dataclass(frozen=True, slots=True)
class _Answer:
    facts: CommitFacts
    checked_at_ns: int


class SourceFacts:
    """Implements `policy.lookups.SourceLookup`. `clock_ns` gives the time of a look."""

    def __init__(self, asked: Sequence[_Asked], given: CommitSettings, clock_ns: Callable[[], int]) -> None:
        self._asked = tuple(asked)
        self._environments = frozenset(given.environments)
        self._seconds = given.timeout_seconds
        self._max_age = given.max_age_seconds
        self._clock_ns = clock_ns
        self._answers: AskedOnce[tuple[int, CommitPlace], _Answer] = AskedOnce(self._fetch, time.monotonic)

    async def __call__(self, question: Question) -> Facts | None:
        """None where no source answers for the artifact's commit.

        Raises:
            OrchestratorError: it could not be asked; also written to the log.
        """
        if self._environments and question.environment not in self._environments:
            return None
        answer = await self._find(question)
        return None if answer is None else _told(answer)

    async def message(self, question: Question) -> str:
        """The message of the artifact's commit; empty unless a protected branch has it.

        Raises:
            OrchestratorError: as above.
        """
        answer = await self._find(question)
        return answer.facts.message if answer is not None and answer.facts.protected else ""

    async def _find(self, question: Question) -> _Answer | None:
        origin = origin_of(question.artifact)
        if origin is None:
            return None
        number = next((at for at, one in enumerate(self._asked) if one.answers_for(origin)), None)
        if number is None:
            return None
        try:
            async with asyncio.timeout(self._seconds):
                return await self._answers.get((number, origin.place), self._max_age)
        except TimeoutError:
            late = TryAgainError(
                f"GitHub did not tell within {self._seconds:g} s about commit {origin.place.sha}",
                reason="source_facts_late",
                fix="see whether GitHub and the way to it work; raise promotion.commits.timeout_seconds if it is slow",
            )
            log.warning("%s", late)
            raise late from None
        except OrchestratorError as error:
            log.warning("the source of an artifact could not be looked up: %s (%s); %s", error, error.reason, error.fix)
            raise

    async def _fetch(self, key: tuple[int, CommitPlace]) -> _Answer:
        number, place = key
        checked_at_ns = self._clock_ns()
        return _Answer(await self._asked[number].finder.find(place), checked_at_ns)


def _told(answer: _Answer) -> Facts:
    facts = answer.facts
    return {
        "repository": facts.repository,
        "repository_id": str(facts.repository_id or ""),
        "commit": facts.commit,
        "branch": facts.branch,
        "protected": facts.protected,
        "merged": facts.merged,
        "commit_verified": facts.commit_verified,
        "reviewed": facts.reviewed,
        "author": facts.author,
        "author_id": str(facts.author_id or ""),
        "pull_request": facts.pull_request,
        "reason": facts.reason,
        "checked_at": timestamp(answer.checked_at_ns),
        "from": FROM,
    }


def origin_of(artifact: Facts | None) -> Origin | None:
    """The one repository and commit that verified provenance names; None where it names none, or several."""
    if artifact is None:
        return None
    own = artifact.get("built")
    if isinstance(own, Mapping) and own:
        return _of_ours(own)
    others = artifact.get("provenances")
    found = (
        {_of_others(one) for one in others if isinstance(one, Mapping)} if isinstance(others, list | tuple) else set()
    )
    return found.pop() if len(found) == 1 else None


def _of_ours(built: Mapping[str, Any]) -> Origin | None:
    texts = [_text(built.get(name)) for name in ("repository", "repository_id", "sha", "caller_issuer")]
    repository, number, sha, issuer = texts
    if not all(texts) or not (number.isascii() and number.isdigit()) or len(number) > 19 or int(number) == 0:
        return None
    return Origin(CommitPlace(repository, int(number), sha, _text(built.get("ref"))), issuer=issuer)


def _of_others(one: Mapping[str, Any]) -> Origin | None:
    """Provenance of other builders names a repository by its URL, and knows no id."""
    sha = _text(one.get("commit"))
    try:
        parts = urlsplit(_text(one.get("repository")))
    except ValueError:
        return None
    segments = [part for part in parts.path.removesuffix(".git").split("/") if part]
    if not sha or parts.scheme not in _GIT or len(segments) != 2 or parts.query or parts.fragment:
        return None
    return Origin(CommitPlace("/".join(segments), 0, sha), host=parts.netloc.lower())


def _text(value: object) -> str:
    return value if isinstance(value, str) and len(value) <= MAX_TEXT else ""


def open_source_facts(settings: Settings, clock_ns: Callable[[], int], stack: AsyncExitStack) -> SourceFacts | None:
    """None where `promotion.commits` is not configured. Nothing is sent yet.

    Raises:
        ConfigurationError: a source's settings are not fit, with its name.
    """
    given = settings.promotion.commits
    if given is None:
        return None
    named = {one.name: one for one in settings.github}
    return SourceFacts([_open(named[name], given, stack) for name in given.sources], given, clock_ns)


def _open(source: GitHubSettings, given: CommitSettings, stack: AsyncExitStack) -> _Asked:
    try:
        connection = _reading(github_slice.connection(source), READS if given.pull_requests else READS_COMMITS)
    except ConfigurationError as error:
        raise ConfigurationError(f"github {source.name}: {error}", reason=error.reason, fix=error.fix) from error
    github = GitHub(connection)
    push_closing(stack, f"commits of GitHub {source.name}", github.close)
    finder = CommitFinder(github.commits, connection.url, CommitRules(given.branches, given.pull_requests))
    issuers = frozenset({github_slice.issuer(source, connection.url), *given.issuers})
    return _Asked(finder, connection.url, issuers)


def _reading(connection: GitHubConnection, permissions: Mapping[str, str]) -> GitHubConnection:
    """The same, with an App's token that may do no more than read."""
    credential = connection.credential
    if not isinstance(credential, AppCredential):
        return connection
    return replace(connection, credential=replace(credential, permissions=permissions))
