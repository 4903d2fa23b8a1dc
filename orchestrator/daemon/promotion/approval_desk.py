"""Takes in what people sign, shows it, and reads the approvers' file and the folders of signed objects."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from orchestrator.daemon.promotion import approval_views as views
from orchestrator.daemon.records.audit_notes import AuditNotes
from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.evidence.approvals.book import FOLDER, Book, Endorser, Taken
from orchestrator.evidence.approvals.envelopes import MAX_ENVELOPE_CHARS, Envelope, read_envelope
from orchestrator.evidence.approvals.ledger import Held, signed_by
from orchestrator.evidence.approvals.people import read_people
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import Lasting, read_statement
from orchestrator.evidence.approvals.taking import target_of
from orchestrator.identity.verify import CallerRefusedError, CallerVerifier
from orchestrator.lifecycle.ports import Clock
from orchestrator.model.job import Caller
from orchestrator.model.record import Record
from orchestrator.policy.input import is_digest
from orchestrator.policy.lookups import EvidenceLookup
from orchestrator.server.approvals.port import ShownPerson
from orchestrator.settings.approvals import ApprovalsSettings

_log = logging.getLogger("orchestrator")

MAX_FILES: Final = 2000
"""Objects in one folder; those whose names come later are left out, and the log says so."""
_NOT_OURS: Final = frozenset({"issuer_unknown", "audience_mismatch"})
_OLD: Final = frozenset({"approval_expired", "approval_revoked"})
"""What folders of signed objects are full of after a while: nothing to speak of."""


class ApprovalDesk:
    """`server.deps.ApprovalDesk`. `load` first."""

    def __init__(
        self,
        settings: ApprovalsSettings,
        book: Book,
        verifier: CallerVerifier | None,
        artifact: EvidenceLookup,
        notes: AuditNotes,
        clock: Clock,
    ) -> None:
        self._settings = settings
        self._book = book
        self._ledger = book.ledger
        self._verifier = verifier
        self._artifact = artifact
        self._notes = notes
        self._clock = clock
        self._loading = asyncio.Lock()

    @property
    def configured(self) -> bool:
        """Whether there is an approvers' file; without one nothing is taken."""
        return self._settings.people is not None

    @property
    def digest(self) -> str:
        """Of the approvers' file in force; empty where there is none."""
        return self._ledger.people.digest

    async def close(self) -> None:
        if self._verifier is not None:
            await self._verifier.close()

    async def load(self, actor: str) -> bool:
        """Read the approvers' file, then the folders; whether anything changed.

        Raises:
            ConfigurationError: `approvers_invalid`: the people before, if there were any, stay in force.
            TryAgainError: `audit_unavailable`: the same.
        """
        if self._settings.people is None:
            return False
        async with self._loading:
            people = await asyncio.to_thread(read_people, self._settings.people)
            changed = people.digest != self._ledger.people.digest
            if changed:
                signers = await asyncio.to_thread(signed_by, people, list(self._ledger.objects.values()))
                await self._notes.approvers_loaded(people.digest, len(people.by_name), actor)
                self._ledger.put_in_force(people, signers)
            return await self._take_folders() or changed

    async def _take_folders(self) -> bool:
        fresh = False
        for folder in self._settings.objects:
            found = await asyncio.to_thread(_read_folder, folder)
            # What ends or reviews another object comes after it.
            for path, envelope in sorted(found, key=_closes):
                try:
                    taken = await self._book.take(envelope, FOLDER, self._clock.now_ns(), self._noted(FOLDER))
                    fresh |= taken.fresh
                except ApprovalRefusedError as refused:
                    if refused.reason not in _OLD:
                        _complain(path, refused)
        return fresh

    async def person(self, token: str) -> ShownPerson | None:
        """Who a token of an issuer of `approvals.issuers` shows to be there; None for any other token.

        Raises:
            CallerRefusedError: it is of such an issuer, and no good, or of nobody in the approvers' file.
            TryAgainError: `issuer_unreachable`.
        """
        if self._verifier is None:
            return None
        try:
            caller = await self._verifier.verify(token)
        except CallerRefusedError as refused:
            if refused.reason in _NOT_OURS:
                return None
            raise
        if self._ledger.people.of_identity(caller.issuer, caller.subject) is None:
            raise CallerRefusedError(
                "claim_mismatch", "the token's subject is nobody in the approvers' file", issuer=caller.issuer
            )
        return ShownPerson(caller, token)

    async def submit(self, text: str, who: Caller | ShownPerson) -> tuple[Mapping[str, Any], bool]:
        """Take an envelope, signed by keys or, if a person shows a token with it, by that person; its view, and whether
        anything in it is new.

        Raises:
            GiveUpError: `approvals_not_configured`, or a reason of `evidence.approvals.refusal`.
            TryAgainError: `approvals_full`, `approvals_unavailable`, `audit_unavailable`.
        """
        self._configured()
        envelope = read_envelope(text)
        endorser, caller = None, who
        if isinstance(who, ShownPerson):
            endorser, caller = await self._endorser(who, envelope), who.caller
        assert isinstance(caller, Caller)
        now_ns = self._clock.now_ns()
        taken = await self._book.take(envelope, "api", now_ns, self._noted(self._notes.who(caller)), endorser)
        return views.whole(self._ledger, taken.held, now_ns), taken.fresh

    async def _endorser(self, who: ShownPerson, envelope: Envelope) -> Endorser:
        """Spends the token: it signs this object, and no other."""
        issuer, subject = who.caller.issuer, who.caller.subject
        if self._ledger.people.of_identity(issuer, subject) is None:
            raise ApprovalRefusedError(
                "approval_signer_unknown", "the token's subject is nobody in the approvers' file"
            )
        assert self._verifier is not None, "a person was shown by it"
        await self._verifier.verify(who.token, hashlib.sha256(envelope.payload).hexdigest())
        return Endorser(issuer, subject, f"sha256:{hashlib.sha256(who.token.encode()).hexdigest()}")

    def listed(self, wanted: Mapping[str, str], limit: int) -> Sequence[Mapping[str, Any]]:
        """Lines of the newest objects for which each member of a line that is wanted is so."""
        now_ns = self._clock.now_ns()
        lines = (views.line(self._ledger, one, now_ns) for one in reversed(list(self._ledger.objects.values())))
        fit = (line for line in lines if all(line[name] == value for name, value in wanted.items()))
        return [line for line, _ in zip(fit, range(limit), strict=False)]

    async def shown(self, name: str, job: Record | None = None) -> Mapping[str, Any]:
        """One object, and whether it counts for the job.

        Raises:
            GiveUpError: `approvals_not_configured`, `approval_unknown`.
        """
        self._configured()
        one = self._ledger.objects.get(name)
        if one is None:
            raise ApprovalRefusedError("approval_unknown", f"there is no object {name}")
        view = views.whole(self._ledger, one, self._clock.now_ns())
        return view | {"for_job": await self._for_job(one, job)} if job is not None else view

    async def _for_job(self, one: Held, job: Record) -> Mapping[str, Any]:
        digest = job.offer.spec.artifact_digest
        artifact = await self._artifact(digest) if is_digest(digest) else None
        return views.for_job(self._ledger, one, views.asked_of_job(job, artifact), self._clock.now_ns())

    async def revoke(self, name: str, reason: str, caller: Caller) -> Mapping[str, Any]:
        """In an operator's name, for ever; again is without effect.

        Raises:
            GiveUpError: `approvals_not_configured`, `approval_unknown`.
            TryAgainError: `approvals_unavailable`, `audit_unavailable`.
        """
        self._configured()
        now_ns = self._clock.now_ns()
        await self._book.revoke(name, reason, "operator", now_ns, self._noted(self._notes.who(caller)))
        return views.whole(self._ledger, target_of(self._ledger, name), now_ns)

    def _configured(self) -> None:
        if not self.configured:
            raise GiveUpError(
                "No approvers are configured, so nobody's signature would count.",
                reason="approvals_not_configured",
                fix="name the approvers' file in the settings: approvals.people",
            )

    def _noted(self, actor: str) -> Any:
        async def before(taken: Taken) -> None:
            environment = views.environment_of(self._ledger, taken.held)
            line = {"id": taken.held.id, "type": views.type_of(taken.held.predicate), "environment": environment}
            predicate = taken.held.predicate
            named = predicate.kind if isinstance(predicate, Lasting) else predicate.object
            await self._notes.approval_taken({**line, "of": named, "people": list(taken.people)}, actor)

        return before


def _read_folder(folder: Path) -> list[tuple[Path, Envelope]]:
    try:
        paths = sorted(folder.glob("*.json"))
    except OSError as error:
        _log.error("a folder of signed objects cannot be read", extra={"folder": str(folder), "detail": error.strerror})
        return []
    if len(paths) > MAX_FILES:
        _log.error("a folder holds too many signed objects", extra={"folder": str(folder), "taken": MAX_FILES})
    return list(_read_files(paths[:MAX_FILES]))


def _read_files(paths: Sequence[Path]) -> Iterator[tuple[Path, Envelope]]:
    for path in paths:
        try:
            with path.open(encoding="utf-8") as file:
                envelope = read_envelope(file.read(MAX_ENVELOPE_CHARS + 1))
            read_statement(envelope.payload)
        except ApprovalRefusedError as refused:
            _complain(path, refused)
        except (OSError, UnicodeDecodeError):
            _log.error("a signed object cannot be read", extra={"file": str(path)})
        else:
            yield path, envelope


def _closes(found: tuple[Path, Envelope]) -> tuple[bool, str]:
    path, envelope = found
    return not isinstance(read_statement(envelope.payload), Lasting), path.name


def _complain(path: Path, refused: OrchestratorError) -> None:
    detail = {"file": str(path), "reason": refused.reason, "detail": str(refused), "fix": refused.fix}
    _log.error("a signed object is not taken", extra=detail)
