"""The audit log in the daemon: facts reach it through the journal, and what concerns no job through `note`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

from orchestrator import __version__
from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.records.audit_anchors import AnchoredPolicy, AnchorRoom
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.evidence.audit.facts import DAEMON, MAX_TEXT, JobFacts
from orchestrator.evidence.audit.keyed import KeyedHash
from orchestrator.evidence.audit.log import AuditLog
from orchestrator.evidence.audit.note import open_note_key
from orchestrator.evidence.audit.record import AuditEvent, Json
from orchestrator.evidence.audit.store import Pace
from orchestrator.journal.audited import WAIT_SECONDS, AuditedJournal
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.journal.trail import KeptJournal, unavailable
from orchestrator.lifecycle.ports import Clock, Policy
from orchestrator.model.events import Fact
from orchestrator.private_file import private_folder, rename
from orchestrator.settings import Settings
from orchestrator.telemetry.ids import trace_id

_log = logging.getLogger("orchestrator")

Clocked = Callable[[], int]

_KEY = "audit"
_NEW_KEY = "audit.new"
"""The name of a key that has signed no record yet."""


class FactTrail:
    """`journal.trail.Trail` over the audit log."""

    def __init__(self, log: AuditLog, facts: JobFacts) -> None:
        self._audit = log
        self._facts = facts

    @property
    def healthy(self) -> bool:
        return self._audit.healthy

    @property
    def problem(self) -> OrchestratorError | None:
        return self._audit.problem

    @property
    def last_seq(self) -> int:
        return self._audit.last_journal_seq

    def recall(self, facts: Sequence[Fact]) -> None:
        self._facts.recall(facts)

    def records(self, facts: Sequence[Fact]) -> Sequence[AuditEvent]:
        return self._facts.told(facts)

    def write(self, records: Sequence[AuditEvent]) -> asyncio.Future[None]:
        return self._audit.submit(records)


class Audit:
    """The open log, its anchors, and the records that concern no job."""

    def __init__(self, log: AuditLog, keyed: KeyedHash, anchors: AnchorRoom, now_ns: Clocked) -> None:
        self.log = log
        self.anchors = anchors
        self._keyed = keyed
        self._now_ns = now_ns

    async def note(self, kind: str, data: Mapping[str, Json], *, actor: str = DAEMON, journal_seq: int = 0) -> None:
        """Add a record; it is durable when this returns. `data` holds no value that must stay secret: see `keyed`.

        Raises:
            TryAgainError: reason `audit_unavailable`: it is not durable yet. It may have been taken and will then be
                written when the log gets well, but nothing may rest on it.
        """
        taken = self._take(kind, data, actor, journal_seq)
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await asyncio.shield(taken)
        except TimeoutError:
            raise unavailable(f"a record of kind {kind} is not there after {WAIT_SECONDS:g} s") from None

    async def close(self) -> None:
        """Tell of the end, if it can be told, and close the log, then the anchors: they get the last checkpoint."""
        with contextlib.suppress(OrchestratorError):
            _ = self._take("daemon.stopped", {"version": __version__})
        await self.log.close()
        await self.anchors.close()

    def _take(
        self, kind: str, data: Mapping[str, Json], actor: str = DAEMON, journal_seq: int = 0
    ) -> asyncio.Future[None]:
        """Have the log take a record; closing the log writes it if nothing else has."""
        event = AuditEvent(
            kind=kind,
            at_ns=self._now_ns(),
            actor=actor[:MAX_TEXT],
            workflow="",
            commit="",
            environment="",
            outcome="",
            data=data,
            journal_seq=journal_seq,
        )
        taken = self.log.submit([event])
        taken.add_done_callback(_heard)  # whoever waited may be gone when it fails
        return taken

    def keyed(self, kind: str, value: str | bytes) -> str:
        """The keyed hash of a value, to be told in its place."""
        return self._keyed.of(kind, value)

    def checkpoint(self) -> str:
        """See `server.deps.AuditDocuments`."""
        return self.log.checkpoint.note

    def vkey(self) -> str:
        return self.log.vkey

    def checks(self) -> Mapping[str, str]:
        """For readiness: each check to `ok`, or to what is wrong."""
        problem = self.log.problem
        checks = {"audit": f"{problem} [{problem.reason}]" if problem else "ok"}
        if self.anchors.required:
            lacking = self.anchors.lacking()
            checks["audit_anchor"] = lacking or "ok"
        return checks


def anchored(policy: Policy, audit: Audit | None, clock: Clock) -> Policy:
    """`policy`, or with it the rule that checkpoints must be kept elsewhere, where the settings say so."""
    return AnchoredPolicy(policy, audit.anchors, clock) if audit is not None and audit.anchors.required else policy


async def open_audit(
    settings: Settings, url: str, clock: SystemClock, journal: SqliteJournal, stack: AsyncExitStack
) -> tuple[KeptJournal, Audit | None]:
    """The journal as everybody else is to use it, behind the audit log where that is enabled, caught up with it.

    Raises:
        OrchestratorError: the audit log is not fit, or cannot be brought up to the journal; the daemon must not start.
    """
    if not settings.audit.enabled:
        _log.warning("the audit log is switched off: what happens now can never be audited")
        return journal, None
    log, keyed = await _open_log(settings, url, journal)
    try:
        anchors = AnchorRoom(settings.audit, log, clock)
    except BaseException:
        await log.close()
        raise
    audit = Audit(log, keyed, anchors, clock.now_ns)
    anchors.start()
    push_closing(stack, "audit log", audit.close)
    await _begin(audit, journal)
    _keep_key(settings.state_dir / "keys")
    audited = AuditedJournal(journal, FactTrail(log, JobFacts(keyed, trace_id)), clock)
    push_closing(stack, "audited journal", audited.close)
    written = await audited.catch_up()
    if written:
        _log.warning("the audit log lacked facts of the journal and has them now", extra={"records": written})
        await audit.note("log.caught_up", {"records": written})
    await _note_start(audit, settings, url)
    return audited, audit


async def _open_log(settings: Settings, url: str, journal: SqliteJournal) -> tuple[AuditLog, KeyedHash]:
    keys = settings.state_dir / "keys"
    private_folder(keys)
    key_file = keys / _KEY
    known = key_file.exists()
    key = open_note_key(key_file if known else keys / _NEW_KEY, f"{urlsplit(url).netloc}/audit")
    keyed = KeyedHash.open(keys / "audit-hash")
    folder = settings.audit.folder or settings.state_dir / "audit"
    pace = Pace(settings.audit.checkpoint_seconds, settings.audit.checkpoint_records)
    log = await AuditLog.open(folder, key, pace=pace)
    if known and log.size == 0 and journal.last_seq:
        await log.close()
        raise _missing(folder, key_file)
    return log, keyed


def _keep_key(keys: Path) -> None:
    """The log has a record: from now on its key says that there has to be one. A first start that failed before that
    has lost nothing."""
    if not (keys / _KEY).exists():
        rename(keys / _NEW_KEY, keys / _KEY)


def _missing(folder: Path, key_file: Path) -> ConfigurationError:
    return ConfigurationError(
        f"the audit log in {folder} is empty, and its key and the journal are older than that",
        reason="audit_missing",
        fix=f"put the log back in its place; if it is lost, move {key_file} away too: a new log begins under a new key",
    )


async def _begin(audit: Audit, journal: SqliteJournal) -> None:
    """A new log begins where the journal stands. A journal that was put back from a copy goes on behind the log."""
    audited_seq = audit.log.last_journal_seq
    if audit.log.size == 0:
        await audit.note("log.begun", {"journal_seq": journal.last_seq}, journal_seq=journal.last_seq)
    elif journal.last_seq < audited_seq:
        lost = {"journal_seq": journal.last_seq, "audited_seq": audited_seq}
        _log.error("the journal is older than the audit log: it was put back from a copy, or replaced", extra=lost)
        await audit.note("journal.replaced", lost)
        await journal.continue_after(audited_seq)


async def _note_start(audit: Audit, settings: Settings, url: str) -> None:
    as_text = settings.model_dump_json()
    await audit.note(
        "daemon.started",
        {
            "version": __version__,
            "url": url[:MAX_TEXT],
            "settings": audit.keyed("settings", as_text),
            # The same in every record of this kind, for as long as keyed hashes are made with one key.
            "hash_key": audit.keyed("hash_key", "id"),
        },
    )


def _heard(taken: asyncio.Future[None]) -> None:
    if not taken.cancelled():
        taken.exception()
