"""Reads what happened, in order and without a gap, and lays what is to be told into the outbox.

Facts come by the journal's feed. What came while no daemon ran, or faster than it could be stored, is read from the
journal again: the outbox knows how far it got.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import structlog

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.model import events
from orchestrator.model.events import Fact
from orchestrator.model.job import JobId
from orchestrator.notifications.messages import Message, Origin, message_of
from orchestrator.notifications.notices import JobContext, Notice, begin, clean, context_of, follow, notice_of
from orchestrator.notifications.outbox import Outbox
from orchestrator.notifications.sender import Sender

_log = structlog.get_logger(__name__)

PAGE = 256
"""Facts of one step."""
MAX_HELD = 8192
"""Facts that the feed may hold; with more than these, the journal is read instead."""
MAX_CONTEXTS = 20_000
"""Jobs whose context is kept; that of another is read from the journal."""
CURSOR_SECONDS = 30.0
"""How often it is noted how far the journal was read when nothing had to be told."""
_AGAIN_SECONDS = 5.0


class FactSource(Protocol):
    """The part of the journal that is read; see `orchestrator.journal.trail.KeptJournal`."""

    @property
    def last_seq(self) -> int: ...

    async def facts_after(self, seq: int, limit: int) -> Sequence[Fact]: ...

    async def facts_of(self, job_id: JobId) -> Sequence[Fact]: ...


@dataclass(eq=False)
class Follower:
    """`observe` is for the journal's feed; `run` is a task. `mask` takes secrets out of texts."""

    journal: FactSource
    outbox: Outbox
    senders: Mapping[str, Sender]
    origin: Origin
    mask: Callable[[str], str]
    _contexts: OrderedDict[JobId, JobContext] = field(default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self._held: deque[Fact] = deque()
        self._overrun = True  # what came before the first look is in the journal only
        self._woken = asyncio.Event()
        self._stopping = asyncio.Event()
        head = self.journal.last_seq
        # A first outbox tells of nothing before it; a journal that was put back from an older copy goes on from there.
        self._read = head if self.outbox.cursor is None else min(self.outbox.cursor, head)
        self._live_from = head
        self._stored = self._read if self.outbox.cursor == self._read else -1
        self._stored_at = 0.0

    @property
    def lag(self) -> int:
        """Facts that the journal has and that were not looked at here yet, about."""
        return max(self.journal.last_seq - self._read, 0)

    def observe(self, facts: Sequence[Fact]) -> None:
        """Take note of facts that are durable. Quick, and never raises."""
        if self._overrun or len(self._held) + len(facts) > MAX_HELD:
            self._held.clear()
            self._overrun = True
        else:
            self._held.extend(facts)
        self._woken.set()

    def finish(self) -> None:
        """Read on to the journal's end, then have `run` return."""
        self._overrun = True  # the feed may have ended before the journal did
        self._stopping.set()
        self._woken.set()

    async def run(self) -> None:
        """Until `finish` or cancellation."""
        while True:
            last = self._stopping.is_set()
            self._woken.clear()
            went_on = await self._guarded_turn(last)
            if last:
                return
            waiting, seconds = (self._woken, CURSOR_SECONDS) if went_on else (self._stopping, _AGAIN_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await waiting.wait()

    async def _guarded_turn(self, last: bool) -> bool:
        try:
            await self._turn(last)
        except OrchestratorError as error:
            _log.warning("notifications_behind", reason=error.reason, detail=str(error), facts=self.lag)
        except Exception:  # noqa: BLE001 -- a defect must not end the telling for good, and must not be silent either
            _log.exception("notifications_behind", facts=self.lag)
        else:
            return True
        self._contexts.clear()
        self._overrun = True  # what could not be stored comes again, from the journal
        return False

    async def _turn(self, last: bool) -> None:
        """Look at all that came."""
        while self._overrun or self._held:
            if self._overrun:
                page = await self._journal_page()
            else:
                page = [self._held.popleft() for _ in range(min(PAGE, len(self._held)))]
            await self._tell([fact for fact in page if fact.seq > self._read])
        overdue = asyncio.get_running_loop().time() - self._stored_at >= CURSOR_SECONDS
        if self._stored < self._read and (last or overdue):
            await self._store([], self._read)

    async def _journal_page(self) -> Sequence[Fact]:
        """From the journal, until the feed can be followed again."""
        self._held.clear()
        self._overrun = False  # from here on the feed is kept: what it brings is in this page, or comes after it
        head = self.journal.last_seq
        page = await self.journal.facts_after(self._read, PAGE)
        if not page:
            self._read = max(self._read, head)
        elif page[-1].seq < self.journal.last_seq:
            self._overrun = True
        return page

    async def _tell(self, facts: Sequence[Fact]) -> None:
        rows: list[tuple[str, Message]] = []
        numbers = {name: shelf.number for name, shelf in self.outbox.shelves.items()}
        for fact in facts:
            notice = await self._notice(fact)
            if notice is not None:
                rows += self._messages(notice, numbers)
        if rows:
            await self._store(rows, facts[-1].seq)
        if facts:
            self._read = facts[-1].seq

    async def _store(self, rows: Sequence[tuple[str, Message]], cursor: int) -> None:
        dropped = await self.outbox.add([row for row in rows if row[0] in self.senders], cursor)
        self._stored, self._stored_at = cursor, asyncio.get_running_loop().time()
        for name in {name for name, _ in rows}:
            sender = self.senders.get(name)
            if sender is not None:
                if lost := dropped.get(name):
                    sender.dropped(lost, "too many waited")
                sender.wake()

    async def _notice(self, fact: Fact) -> Notice | None:
        if isinstance(fact.event, events.JobCompacted):
            return None
        job = await self._context(fact)
        if isinstance(fact.event, events.JobFinished):
            self._contexts.pop(fact.job_id, None)
        return None if job is None else notice_of(fact, job)

    async def _context(self, fact: Fact) -> JobContext | None:
        """The job's context after this fact."""
        known = self._contexts.pop(fact.job_id, None)
        if isinstance(fact.event, events.JobOffered):
            job: JobContext | None = begin(fact.job_id, fact.at_ns, fact.event.offer)
        elif known is not None:
            job = follow(known, fact)
        else:
            job = context_of([one for one in await self._facts_of(fact.job_id) if one.seq <= fact.seq])
        if job is not None:
            self._contexts[fact.job_id] = job
            while len(self._contexts) > MAX_CONTEXTS:
                self._contexts.popitem(last=False)
        return job

    async def _facts_of(self, job_id: JobId) -> Sequence[Fact]:
        try:
            return await self.journal.facts_of(job_id)
        except GiveUpError as error:
            _log.error("notifications_unreadable", job_id=job_id, reason=error.reason)
            return ()

    def _messages(self, notice: Notice, numbers: dict[str, int]) -> Sequence[tuple[str, Message]]:
        """The notice for each endpoint that wants it."""
        rows = []
        # Texts of before this daemon's start are not told: which secrets could be in them is known no more.
        live = notice.seq > self._live_from
        for name, sender in self.senders.items():
            endpoint = sender.endpoint
            if self.outbox.shelves[name].disabled or not endpoint.filter.wants(notice):
                continue
            told = clean(notice, self.mask, sentence=endpoint.sentences and live)
            message_id = _message_id(self.outbox.origin, name, notice)
            number = numbers.setdefault(name, self.outbox.shelves[name].number) + 1
            try:
                message = message_of(told, message_id, number, endpoint.format, self.origin)
            except ValueError:  # text that is no Unicode: one job's names must not keep all others from being told
                _log.exception("notifications_untellable", job_id=notice.job.id, type=notice.type.value)
                continue
            numbers[name] = number
            rows.append((name, message))
        return rows


def _message_id(origin: str, endpoint: str, notice: Notice) -> str:
    """The same for the same fact, however often it is made: receivers know a repetition by it. The moment tells it from
    a fact that had its number in a journal that was put back."""
    parts = (origin, endpoint, str(notice.seq), str(notice.at_ns))
    return "msg_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
