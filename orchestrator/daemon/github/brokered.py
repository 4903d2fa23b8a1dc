"""GitHub's installation tokens for jobs: made when granted, kept while they live, ended with their job.

`TokenIssued` is durable before a token is asked for, and the token is in the vault before the job has it. So whatever
crashes, a token that a job has can be ended, and one that nobody has is on the job's record with its latest end
(docs/decisions/0147).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.github import slice as github_slice
from orchestrator.daemon.slices import GITHUB_AUDIENCE
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.identity.brokered import (
    GITHUB_INSTALLATION,
    BrokeredDraft,
    Credential,
    CredentialNotMadeError,
    installation_draft,
)
from orchestrator.identity.issuer import Trusted
from orchestrator.identity.vault import Kept, Vault
from orchestrator.intake.github.errors import UnavailableError
from orchestrator.intake.github.repository_tokens import MAKING, RepositoryToken, RepositoryTokens
from orchestrator.journal.redact import Masker
from orchestrator.lifecycle.engine import Engine
from orchestrator.lifecycle.ports import Clock, Journal
from orchestrator.model.decision import Decision
from orchestrator.model.events import AlarmRaised, CredentialRevoked, Fact, TokenIssued, TokenRefused
from orchestrator.model.job import JobId
from orchestrator.model.pool import Pool
from orchestrator.model.record import Record
from orchestrator.settings import Settings

_log = logging.getLogger("orchestrator")

MAX_LIVE: Final = 16
"""Installation tokens of one job that live at once."""
MAKING_SECONDS: Final = 10.0
"""Longest wait for one; well within that of the whole exchange."""

UNACCOUNTED: Final = "credential_unaccounted"
"""The alarm for a credential that a killed daemon may have had made: nobody has it, and nobody can end it."""


@dataclass(frozen=True)
class JobApp:
    """A configured App, and the caller issuer whose `repository_id` is GitHub's own number."""

    tokens: RepositoryTokens
    vouches: str


class GitHubBroker:
    """`identity.brokered.Broker`, and a `lifecycle.ports.Revoker`. `mask` is told each token as soon as it is there."""

    def __init__(
        self,
        apps: Mapping[str, JobApp],
        vault: Vault,
        engine: Callable[[], Engine],
        journal: Journal,
        now_ns: Callable[[], int],
        mask: Callable[[JobId, str], object],
    ) -> None:
        self._apps = apps
        self._vault = vault
        self._engine = engine
        self._journal = journal
        self._now_ns = now_ns
        self._mask = mask
        self._making: dict[JobId, set[asyncio.Task[Credential]]] = {}
        self._ending: dict[str, asyncio.Lock] = {}
        self._abandoned: set[str] = set()

    # The exchange's side.

    def serves(self, audience: str) -> bool:
        return audience.startswith(GITHUB_AUDIENCE) and audience.removeprefix(GITHUB_AUDIENCE) in self._apps

    def draft(self, record: Record, pool: Pool, audience: str, decision: Decision, trusted: Trusted) -> BrokeredDraft:
        if len(self._vault.of_job(record.id)) + len(self._making.get(record.id, ())) >= MAX_LIVE:
            raise GiveUpError(
                f"the job has {MAX_LIVE} installation tokens already",
                reason="too_many_credentials",
                fix="keep a token until it expires instead of asking for each use",
            )
        vouches = self._apps[audience.removeprefix(GITHUB_AUDIENCE)].vouches
        return installation_draft(record, pool, audience, decision, trusted, vouches=vouches, now=self._now())

    async def make(self, job_id: JobId, draft: BrokeredDraft) -> Credential:
        task = asyncio.get_running_loop().create_task(self._make(job_id, draft), name=f"credential of {job_id}")
        making = self._making.setdefault(job_id, set())
        making.add(task)
        task.add_done_callback(lambda _task: self._made(job_id, task))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            self.abandon(draft.issued.jti)
            raise

    def abandon(self, jti: str) -> None:
        self._abandoned.add(jti)

    def _made(self, job_id: JobId, task: asyncio.Task[Credential]) -> None:
        making = self._making.get(job_id, set())
        making.discard(task)
        if not making:
            self._making.pop(job_id, None)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone; then nobody else looks at it

    async def _make(self, job_id: JobId, draft: BrokeredDraft) -> Credential:
        issued = draft.issued
        name = issued.audience.removeprefix(GITHUB_AUDIENCE)
        tokens = self._apps[name].tokens
        try:
            async with asyncio.timeout(MAKING_SECONDS):
                made = await tokens.make(int(draft.repository_id), draft.permissions)
        except TimeoutError as error:
            raise CredentialNotMadeError(
                "GitHub did not answer in time", reason="github_unavailable", certain=False, again=True, fix="try again"
            ) from error
        except OrchestratorError as error:
            raise _not_made(error) from error
        self._mask(job_id, made.token)
        due = issued.issued_at + draft.lifetime_seconds
        kept = Kept(issued.jti, job_id, name, due, made.expires_at, made.token)
        try:
            await asyncio.to_thread(self._vault.put, kept)
            _check_no_more(made, issued.expires_at)
        except OrchestratorError as error:
            raise await self._given_back(tokens, kept, error) from error
        return Credential(made.token, made.expires_at)

    async def _given_back(
        self, tokens: RepositoryTokens, kept: Kept, error: OrchestratorError
    ) -> CredentialNotMadeError:
        """End what was made and may not be handed over; says whether that is certain. If not, `upkeep` tries on."""
        try:
            async with asyncio.timeout(MAKING_SECONDS):
                await tokens.end(kept.secret)
            certain = True
            await asyncio.to_thread(self._vault.remove, kept.jti)
        except (OrchestratorError, TimeoutError) as trouble:
            certain = False
            self.abandon(kept.jti)
            _log.error("a token that was not handed over cannot be ended: %s", trouble, extra={"jti": kept.jti})
        again = isinstance(error, TryAgainError)
        return CredentialNotMadeError(str(error), reason=error.reason, certain=certain, again=again, fix=error.fix)

    # The job's end, and the time's.

    async def revoke(self, record: Record) -> None:
        """End all that the job has, also what is just being made for it.

        Raises:
            TryAgainError: something may still live.
        """
        if tasks := self._making.get(record.id):
            await asyncio.wait(set(tasks))
        await self._end_all(self._vault.of_job(record.id))

    async def upkeep(self) -> None:
        """End what is due, what nobody has, and what a job that is over has left.

        Raises:
            TryAgainError: something may still live; it is tried again at the next turn.
        """
        now, engine = self._now(), self._engine()

        def due(one: Kept) -> bool:
            return one.due_at <= now or one.jti in self._abandoned or engine.record(one.job_id) is None

        await self._end_all([one for one in self._vault.all() if due(one)])
        if not self._making:
            self._abandoned &= {one.jti for one in self._vault.all()}

    async def adopt(self, live: Iterable[Sequence[Fact]]) -> None:
        """Take over what an earlier daemon had made for jobs that go on, and raise an alarm for what is missing."""
        for facts in live:
            job_id = facts[0].job_id
            for one in self._vault.of_job(job_id):
                self._mask(job_id, one.secret)
            for issued in _unaccounted(facts):
                if self._vault.get(issued.jti) is None and issued.expires_at > self._now():
                    detail = (
                        f"a GitHub token was being made when the daemon was killed ({issued.jti}); nobody has it, and "
                        f"if it exists it ends by itself at {issued.expires_at} (Unix seconds)"
                    )
                    await self._engine().note(job_id, AlarmRaised(UNACCOUNTED, detail))

    async def close(self) -> None:
        """Wait for what is being made, then let go of GitHub. Jobs that live on keep what they have."""
        if tasks := {task for making in self._making.values() for task in making}:
            await asyncio.wait(tasks)
        for app in self._apps.values():
            await app.tokens.close()

    async def _end_all(self, credentials: Sequence[Kept]) -> None:
        results = await asyncio.gather(*(self._end(one) for one in credentials), return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    async def _end(self, one: Kept) -> None:
        async with self._ending.setdefault(one.jti, asyncio.Lock()):
            if self._vault.get(one.jti) is None:
                return
            ended = one.expires_at > self._now()
            if ended:
                await self._end_there(one)
            await self._note_end(one, ended)
            await asyncio.to_thread(self._vault.remove, one.jti)
        self._ending.pop(one.jti, None)

    async def _end_there(self, one: Kept) -> None:
        app = self._apps.get(one.maker)
        if app is None:
            raise TryAgainError(
                f"a GitHub token lives on: its App {one.maker!r} is not configured any more",
                reason="credential_unrevoked",
                fix="list the App under identity.github_apps again, or wait for the token's end within the hour",
            )
        try:
            await app.tokens.end(one.secret)
        except OrchestratorError as error:
            raise TryAgainError(
                f"a GitHub token could not be ended: {error}", reason="credential_unrevoked", fix=error.fix
            ) from error

    async def _note_end(self, one: Kept, ended: bool) -> None:
        """Once, also when a crash has us end it twice; nothing for one that has expired by itself."""
        told = CredentialRevoked(one.jti, GITHUB_INSTALLATION)
        if not ended or any(fact.event == told for fact in await self._journal.facts_of(one.job_id)):
            return
        try:
            await self._engine().note(one.job_id, told)
        except GiveUpError:
            return  # the job is finished: its record is closed

    def _now(self) -> int:
        return self._now_ns() // 1_000_000_000


def open_broker(
    settings: Settings,
    engine: Callable[[], Engine],
    journal: Journal,
    clock: Clock,
    masker: Masker,
    stack: AsyncExitStack,
) -> GitHubBroker | None:
    """For the configured Apps; None where there are none and no earlier daemon has left a credential.

    Raises:
        OrchestratorError: settings or the vault are not fit.
    """
    folder = settings.state_dir / "brokered"
    given = settings.identity.github_apps
    if not given and not folder.exists():
        return None
    apps = {}
    for name, one in given.items():
        connection = github_slice.job_app(name, one)
        apps[name] = JobApp(RepositoryTokens(connection), one.issuer or connection.url.oidc_issuer)
    broker = GitHubBroker(apps, Vault.open(folder), engine, journal, clock.now_ns, masker.register)
    push_closing(stack, "credentials of third parties", broker.close)
    return broker


def _check_no_more(made: RepositoryToken, latest: int) -> None:
    """Raises GiveUpError: the token is good for more than was asked for, or longer than is on record."""
    fix = "something between here and GitHub may change answers; if not, report it to GitHub"
    if not made.narrow:
        raise GiveUpError("GitHub gave a token for more than was asked for", reason="github_token_too_wide", fix=fix)
    if made.expires_at > latest:
        raise GiveUpError("GitHub's token lives longer than it may", reason="github_token_too_long", fix=fix)


def _not_made(error: OrchestratorError) -> CredentialNotMadeError:
    certain = not (isinstance(error, UnavailableError) and error.may_have_done(MAKING))
    again = isinstance(error, TryAgainError)
    return CredentialNotMadeError(str(error), reason=error.reason, certain=certain, again=again, fix=error.fix)


def _unaccounted(facts: Sequence[Fact]) -> list[TokenIssued]:
    """Third parties' credentials of which the record tells no end and no alarm."""
    over = {fact.event.jti for fact in facts if isinstance(fact.event, CredentialRevoked | TokenRefused)}
    told = " ".join(fact.event.detail for fact in facts if isinstance(fact.event, AlarmRaised))
    issued = [fact.event for fact in facts if isinstance(fact.event, TokenIssued)]
    return [one for one in issued if one.kind == GITHUB_INSTALLATION and one.jti not in over and one.jti not in told]
