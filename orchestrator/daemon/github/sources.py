"""The configured GitHub sources, opened and plugged into the engine, the runner API and the public API."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.github import slice as github_slice
from orchestrator.daemon.github.state import source_state
from orchestrator.daemon.github.webhooks import open_webhooks
from orchestrator.errors import ConfigurationError, GiveUpError
from orchestrator.identity.github_oidc import GitHubJobTokens
from orchestrator.identity.replay import ReplayStore
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.fact_finder import JobFacts
from orchestrator.intake.github.scale_sets.session_notes import FileNotes
from orchestrator.intake.github.scale_sets.source import GitHubSource
from orchestrator.intake.github.webhooks.receiver import WebhookReceiver
from orchestrator.intake.github.webhooks.source import WebhookSource
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import JobSource, Revoker, RunnerIdentity
from orchestrator.model.events import Fact, JobFinished, RunnerDeleted, RunnerExited
from orchestrator.model.job import JobId, PoolName
from orchestrator.model.record import Record
from orchestrator.model.source import SourceState
from orchestrator.server.deps import HookReport
from orchestrator.settings import Settings
from orchestrator.settings.github import GitHubSettings

ASK_AGAIN_SECONDS: Final = 2.0
"""Between two looks for the job of a runner whose hook waits for its name; the answer is shared by all of one run."""

EngineOf = Callable[[], Engine]

_AFTER_THE_ENGINE: Final = 0.01
_AT_THE_LATEST: Final = 1.0
_NEWS = (JobFinished, RunnerDeleted, RunnerExited)


@dataclass(frozen=True, slots=True)
class Opened:
    """One source and what verifies the tokens of its jobs for `audience`; `receiver` where it has webhooks."""

    source: GitHubSource | WebhookSource
    tokens: GitHubJobTokens
    audience: str
    receiver: WebhookReceiver | None = None


@dataclass(frozen=True)
class GitHubSources:
    """All of them by name; none where none is configured."""

    engine: EngineOf
    opened: Mapping[str, Opened] = field(default_factory=dict)
    _again: list[asyncio.TimerHandle] = field(default_factory=list, init=False)

    @property
    def reporters(self) -> dict[str, JobSource]:
        return {name: one.source for name, one in self.opened.items()}

    @property
    def revokers(self) -> list[Revoker]:
        return [one.source for one in self.opened.values()]

    @property
    def receivers(self) -> dict[str, WebhookReceiver]:
        """By the source's name, as `server.deps.ServerDeps.webhooks` wants them."""
        return {name: one.receiver for name, one in self.opened.items() if one.receiver is not None}

    def states(self) -> list[SourceState]:
        """How each is doing, for the API and metrics."""
        return [source_state(one.source.status()) for one in self.opened.values()]

    def audience_of(self, record: Record) -> str:
        """The audience for which a runner's hook asks GitHub for its job's token."""
        one = self.opened.get(record.offer.key.source)
        return one.audience if one else ""

    async def work_files(self, record: Record) -> Mapping[str, str]:
        """`server.deps.WorkFiles`: the registration of a runner that has just been bound."""
        return await self._of(record).source.work_files(record)

    async def name(self, identity: RunnerIdentity, report: HookReport) -> Record | None:
        """`server.deps.Namer`: by the job's own token where there is one, else by what GitHub's API says of the runner.

        Raises:
            GiveUpError: the token is not believed, or as `Engine.name_job`.
            TryAgainError: GitHub or its key set cannot be asked now.
        """
        record = self.engine().record_of_runner(identity.name)
        if record is None:
            raise GiveUpError("this runner has no job", reason="runner_unknown")
        one = self._of(record)
        claims = await one.tokens.verify(report.token, identity.name) if report.token else None
        while True:
            named = await one.source.naming.reported(identity.name, report.repository, int(report.run_id), claims)
            if named is not None:
                return named
            await asyncio.sleep(ASK_AGAIN_SECONDS)

    def observe(self, facts: Sequence[Fact]) -> None:
        """For `journal.subscribe`: pools have more room, or a job's end is due though no message tells it."""
        if self.opened and any(isinstance(fact.event, _NEWS) for fact in facts):
            # The feed runs before the engine's own records have changed, on a busy machine long before: what is looked
            # at too early is looked at once more, for nobody else tells of a slot that is free again.
            loop = asyncio.get_running_loop()
            loop.call_later(_AFTER_THE_ENGINE, self.capacity_changed)
            while self._again:
                self._again.pop().cancel()
            self._again.append(loop.call_later(_AT_THE_LATEST, self.capacity_changed))

    def capacity_changed(self) -> None:
        """Pools may have more room."""
        for one in self.opened.values():
            one.source.capacity_changed()

    async def start(self, stack: AsyncExitStack) -> None:
        """Begin to listen; the engine has adopted all that the journal had."""
        for name, one in self.opened.items():
            await one.source.start()
            push_closing(stack, f"GitHub source {name}", one.source.stop)

    def set_draining(self, draining: bool) -> None:
        """Take on no more jobs than there are runners for, or do again."""
        for one in self.opened.values():
            one.source.set_draining(draining)

    async def let_go(self, ids: Collection[JobId]) -> None:
        """Give up those of these runners that still wait for a job, while the daemon drains; repeat it.

        Raises:
            TryAgainError: the journal could not take it.
        """
        await asyncio.gather(*(one.source.let_go(ids) for one in self.opened.values()))

    def _of(self, record: Record) -> Opened:
        one = self.opened.get(record.offer.key.source)
        if one is None:
            raise GiveUpError("this runner's source is not configured any more", reason="source_unknown")
        return one


def open_github(
    settings: Settings,
    public_url: str,
    engine: EngineOf,
    clock_ns: Callable[[], int],
    stack: AsyncExitStack,
) -> GitHubSources:
    """Open every configured source. Nothing is sent yet.

    Raises:
        ConfigurationError: a source's settings are not fit, with its name.
    """
    if not settings.github:
        return GitHubSources(engine)
    folder = settings.state_dir / "github"
    folder.mkdir(mode=0o700, exist_ok=True)
    replay = ReplayStore(settings.state_dir / "spent-job-tokens", time.time())
    opened = {}
    for given in settings.github:
        try:
            opened[given.name] = _open(given, settings, public_url, engine, clock_ns, replay, stack)
        except ConfigurationError as error:
            raise ConfigurationError(f"github {given.name}: {error}", reason=error.reason, fix=error.fix) from error
    return GitHubSources(engine, opened)


def _open(
    given: GitHubSettings,
    settings: Settings,
    public_url: str,
    engine: EngineOf,
    clock_ns: Callable[[], int],
    replay: ReplayStore,
    stack: AsyncExitStack,
) -> Opened:
    github = GitHub(github_slice.connection(given))
    push_closing(stack, f"connection to GitHub {given.name}", github.close)
    url = github.connection.url
    oidc = github_slice.oidc(given, url, public_url)
    tokens = GitHubJobTokens(oidc, replay=replay, clock_ns=clock_ns, monotonic=time.monotonic)
    push_closing(stack, f"job tokens of GitHub {given.name}", tokens.close)

    def free(pool: PoolName) -> int:
        slots = engine().slots(pool)
        return max(slots.capacity - slots.held - slots.waiting, 0)

    facts = JobFacts(github.rest, url, oidc.issuer, time.monotonic)
    folder = settings.state_dir / "github"
    if given.webhooks is not None:
        hooked, receiver = open_webhooks(given, folder, github, facts, engine, free, clock_ns, stack)
        return Opened(hooked, tokens, oidc.audience, receiver)
    source = GitHubSource(
        config=github_slice.source(given, url),
        github=github,
        facts=facts,
        engine=engine,
        free=free,
        notes=FileNotes(folder / f"{given.name}.sessions.json"),
    )
    return Opened(source, tokens, oidc.audience)
