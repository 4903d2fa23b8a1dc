"""The receipt of each job, made when it is closed: from its facts, and from what the engine has just seen.

Nobody waits for a receipt, and none is worth a job that never ends: what cannot be signed is given up with an alarm.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from orchestrator.daemon.slices import SANDBOX
from orchestrator.daemon.verdicts import EngineOf
from orchestrator.errors import GiveUpError, OrchestratorError, TryAgainError
from orchestrator.evidence.receipts.making import Ending, Signer, receipt_of
from orchestrator.evidence.receipts.signing import sign_receipt
from orchestrator.evidence.receipts.story import Story
from orchestrator.evidence.signing_key import EvidenceKey
from orchestrator.journal.port import JournalReader
from orchestrator.lifecycle.ports import Clock, RunnerIdentity, Withdrawn
from orchestrator.model.events import AlarmRaised, Event, Fact, JobFinished, JobOffered
from orchestrator.model.job import JobId
from orchestrator.model.record import Record
from orchestrator.model.runner import RunnerName
from orchestrator.telemetry.ids import trace_id

_log = logging.getLogger(__name__)

_MOST_FACTS = 64
"""Facts that are kept as they are. Most jobs never have more; of those that do, only their sum is kept."""

_SEEN_BY = {SANDBOX: "launcher", "kubernetes": "api_server"}
"""Whose word a backend's look rests on."""
_SEEN_BY_START = "daemon_start"
"""A sandbox dies with its daemon, and the next one's start removes what it finds."""


@dataclass(slots=True)
class _Heard:
    """What is known of an unfinished job: its facts, or their sum once they are many."""

    facts: list[Fact]
    story: Story | None = None

    def hear(self, fact: Fact) -> None:
        if self.story is not None:
            self.story.hear(fact)
            return
        self.facts.append(fact)
        if len(self.facts) >= _MOST_FACTS:
            self.story, self.facts = Story.of(self.facts), []

    def told(self) -> Story:
        return self.story if self.story is not None else Story.of(self.facts)


class Receipts:
    """`lifecycle.ports.Sealer`.

    Facts are listened to, so that no job has to be read again from the journal but one that an earlier daemon began.
    """

    def __init__(
        self, journal: JournalReader, engine: EngineOf, key: EvidenceKey, signer: Signer, clock: Clock
    ) -> None:
        self._journal = journal
        self._engine = engine
        self._key = key
        self._signer = signer
        self._clock = clock
        self._heard: dict[JobId, _Heard] = {}
        self._access: dict[JobId, Sequence[Withdrawn]] = {}
        journal.subscribe(self._hear)

    @property
    def public_pem(self) -> str:
        """What verifiers get."""
        return self._key.public_pem

    def withdrawn(self, record: Record, access: Sequence[Withdrawn]) -> None:
        """See the port."""
        self._access[record.id] = access

    async def seal(self, record: Record, absent_ns: int, notes: Sequence[Event]) -> Sequence[Event]:
        """See the port.

        Raises:
            TryAgainError: the journal cannot be read now, or the job's identity still counts.
            GiveUpError: there will be no receipt; reason `receipt_failed` for a defect of ours.
        """
        heard = self._heard.get(record.id)
        try:
            story = heard.told() if heard else Story.of(await self._journal.facts_of(record.id))
            return self._sealed(record, story, absent_ns, notes)
        except OrchestratorError:
            raise
        except Exception as error:
            _log.exception("the receipt of job %s cannot be made", record.id)
            raise GiveUpError(
                "the receipt cannot be made; the daemon's log says why", reason="receipt_failed"
            ) from error

    def _sealed(self, record: Record, story: Story, absent_ns: int, notes: Sequence[Event]) -> Sequence[Event]:
        self._require_refused(record, story)
        now = max(self._clock.now_ns(), story.last_ns)
        access = self._access.get(record.id, ())
        left = [AlarmRaised("left_behind", f"{one.what} ({one.how})") for one in access if one.left]
        ending = Ending(
            sealed_ns=now,
            absent_ns=max(absent_ns, story.deleted_ns) if absent_ns else 0,
            seen_by=_seen_by(record, story),
            checked_ns=now if record.runner else 0,
            access=access,
            notes=(*notes, *left),
        )
        receipt = receipt_of(record, story, ending, self._signer, trace_id(record.id))
        return (*left, sign_receipt(receipt, self._key))

    def _require_refused(self, record: Record, story: Story) -> None:
        """The look that runner API, exchange and introspection take, for each runner that there was."""
        if record.runner is None:
            return
        for use in story.uses:
            if self._engine().bound_record(RunnerIdentity(RunnerName(record.runner), use.uid)) is not None:
                raise TryAgainError("the identity of an ended job still counts", reason="identity_counts")

    def _hear(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            kind = type(fact.event)
            if kind is JobOffered:
                self._heard[fact.job_id] = _Heard([fact])
            elif kind is JobFinished:
                self._heard.pop(fact.job_id, None)
                self._access.pop(fact.job_id, None)
            elif (heard := self._heard.get(fact.job_id)) is not None:
                self._listen(heard, fact)

    def _listen(self, heard: _Heard, fact: Fact) -> None:
        try:
            heard.hear(fact)
        except Exception:  # noqa: BLE001 -- a story with a gap would be a false receipt: it is read again
            _log.exception("a fact of job %s was not understood", fact.job_id)
            self._heard.pop(fact.job_id, None)


def _seen_by(record: Record, story: Story) -> str:
    if record.runner is None:
        return ""
    if record.backend == SANDBOX and story.outlived:
        return _SEEN_BY_START
    return _SEEN_BY.get(record.backend, record.backend)
