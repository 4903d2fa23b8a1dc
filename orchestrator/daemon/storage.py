"""What everything else writes into: the journal, the audit log, the jobs' logs."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass

from orchestrator.daemon.clock import SystemClock
from orchestrator.daemon.closing import push_closing
from orchestrator.daemon.records.audit import Audit, open_audit
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.journal.logs import LogStore
from orchestrator.journal.redact import Masker
from orchestrator.journal.sqlite import SqliteJournal
from orchestrator.journal.trail import KeptJournal
from orchestrator.settings import Settings


@dataclass(frozen=True)
class Store:
    """`masker` is for whoever reads the journal or the logs to somebody."""

    journal: KeptJournal
    audit: Audit | None
    notes: AuditNotes
    logs: LogStore
    masker: Masker


async def open_store(settings: Settings, url: str, clock: SystemClock, stack: AsyncExitStack) -> Store:
    """
    Raises:
        OrchestratorError: what is stored is not fit to go on with.
    """
    stored = await SqliteJournal.open(settings.state_dir / "journal.db", clock)
    push_closing(stack, "journal", stored.close)
    journal, audit = await open_audit(settings, url, clock, stored, stack)
    masker = Masker()
    logs = LogStore(settings.state_dir / "logs", settings.logs.max_bytes_per_job, masker)
    push_closing(stack, "job logs", logs.close)
    return Store(journal, audit, AuditNotes(audit), logs, masker)
