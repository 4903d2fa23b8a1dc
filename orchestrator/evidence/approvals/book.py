"""All signed objects of an installation: taken in, asked about, used, reviewed and revoked. Time is an argument.

What is asked is answered from memory. What is added is durable before it counts; a use is durable before the decision
that it allows is given out.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from orchestrator.errors import TryAgainError
from orchestrator.evidence.approvals import judging
from orchestrator.evidence.approvals.envelopes import MAX_SIGNATURES, Envelope
from orchestrator.evidence.approvals.judging import Asked, Limits
from orchestrator.evidence.approvals.keys import PrivateKey, PublicKey, key_id
from orchestrator.evidence.approvals.ledger import Held, Ledger, held
from orchestrator.evidence.approvals.people import People, Person
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import (
    SECOND,
    Endorsement,
    Lasting,
    Predicate,
    Review,
    Revocation,
    RuleException,
    moment,
    moment_ns,
    object_id,
    read_statement,
    statement_bytes,
)
from orchestrator.evidence.approvals.store import ApprovalStore, StoredObject, Use
from orchestrator.evidence.approvals.taking import refuse_taking, target_of
from orchestrator.to_the_end import to_the_end

_log = logging.getLogger("orchestrator")

MAX_OBJECTS: Final = 20_000
FOLDER: Final = "folder"
"""Origin of what lies in a folder: a stranger's signature beside others is left out there without a word."""
KEPT_NS: Final = 400 * 86400 * SECOND
"""How long an object is kept after its end; an exception that was used also until it is reviewed."""


@dataclass(frozen=True, slots=True)
class Endorser:
    """Somebody known by an OIDC token; `token` is its digest (`sha256:<hex>`)."""

    issuer: str
    subject: str
    token: str


@dataclass(frozen=True, slots=True)
class Taken:
    """An object as it is about to be kept, or is kept. `people` are the names of those who have signed it by now;
    `fresh` is false when nothing is new."""

    held: Held
    people: tuple[str, ...]
    fresh: bool


_FULL: Final = "those that ended are forgotten after a while; keep fewer in the folders under approvals.objects"

Before = Callable[[Taken], Awaitable[None]]
"""Told of what is about to count, before it does; if it raises, that is not done."""


class Book:
    """One for each daemon. `key` is the control plane's own, for its word on who showed a token."""

    def __init__(self, store: ApprovalStore, people: People, limits: Limits, key: PrivateKey) -> None:
        self._store = store
        self._key = key
        self._own_keys: Mapping[str, PublicKey] = {key_id(key.public_key()): key.public_key()}
        self._one_by_one = asyncio.Lock()
        self._told: set[tuple[str, str, str, str]] = set()
        self.ledger = Ledger(people, limits)
        self.use_count = 0  # since it was opened

    @classmethod
    async def open(cls, path: Path, people: People, limits: Limits, key: PrivateKey, now_ns: int) -> Book:
        """Read what is kept at `path`, made if it is not there.

        Raises:
            TryAgainError: reason `approvals_unavailable`.
        """
        book = cls(await asyncio.to_thread(ApprovalStore, path), people, limits, key)
        try:
            await asyncio.to_thread(book._read)
            await book._forget(now_ns)
        except BaseException:
            book.close()
            raise
        return book

    def _read(self) -> None:
        for stored in self._store.objects():
            try:
                self.ledger.put(held(stored, self._own_keys))
            except ApprovalRefusedError as refused:
                _log.error("a kept object is not what it was", extra={"object": stored.id, "reason": refused.reason})
        for use in self._store.uses():
            self.ledger.used(use)
        self._told = self._store.told()

    def close(self) -> None:
        self._store.close()

    async def take(
        self, envelope: Envelope, origin: str, now_ns: int, before: Before, endorser: Endorser | None = None
    ) -> Taken:
        """An object, or more signatures of one that is there. `origin` says who brought it.

        Raises:
            ApprovalRefusedError: it is not taken, and why; reasons in `refusal`.
            TryAgainError: `approvals_full`, `approvals_unavailable`, or whatever `before` raises.
        """
        predicate = read_statement(envelope.payload)
        if isinstance(predicate, Endorsement):
            raise ApprovalRefusedError("approval_malformed", "the control plane alone gives its word on tokens")
        async with self._one_by_one:
            known = self.ledger.objects.get(object_id(envelope.payload))
            found = self._joined(known, envelope, predicate, origin, now_ns, endorser)
            people = self._signers(found)
            fresh = known is None or found != known
            if not fresh and origin != FOLDER and not envelope.signatures.keys() <= found.stored.signatures.keys():
                raise ApprovalRefusedError("approval_signer_unknown", "who signed it now is not in the approvers' file")
            if fresh:
                if known is None and len(self.ledger.objects) >= MAX_OBJECTS and not self._ends(predicate):
                    raise TryAgainError("no more approvals can be kept", reason="approvals_full", fix=_FULL)
                refuse_taking(self.ledger, found, self._newcomers(known, people), now_ns)
            taken = Taken(found, tuple(sorted(person.name for person in people)), fresh)
            if fresh:
                await before(taken)
                await to_the_end(self._put(found))
            return taken

    def _joined(
        self,
        known: Held | None,
        envelope: Envelope,
        predicate: Predicate,
        origin: str,
        now_ns: int,
        endorser: Endorser | None,
    ) -> Held:
        """The object with all the signatures by people of ours that there are; those of others are left out."""
        keys = self.ledger.people.keys
        fresh = {name: envelope.signatures[name] for name in envelope.signers(keys)}
        if known is None:
            stored = StoredObject(object_id(envelope.payload), envelope.payload, now_ns, origin, fresh, {})
            known = Held(stored, predicate)
        signatures = fresh | dict(known.stored.signatures)
        endorsements, endorsed = dict(known.stored.endorsements), known.endorsed
        if endorser is not None and (who := (endorser.issuer, endorser.subject)) not in endorsed:
            endorsements[who] = self._countersigned(known.id, endorser, now_ns)
            endorsed |= {who}
        if len(signatures) + len(endorsements) > MAX_SIGNATURES:
            raise ApprovalRefusedError("approval_malformed", f"it has more than {MAX_SIGNATURES} signatures by now")
        stored = replace(known.stored, signatures=signatures, endorsements=endorsements)
        return Held(stored, known.predicate, endorsed)

    def _countersigned(self, name: str, endorser: Endorser, now_ns: int) -> str:
        said = Endorsement(
            object=name, issuer=endorser.issuer, subject=endorser.subject, token=endorser.token, at=moment(now_ns)
        )
        return Envelope(statement_bytes(said), {}).signed_by(self._key).text()

    def _signers(self, found: Held) -> list[Person]:
        people = self.ledger.people
        signed = [people.of_key(key) for key in found.stored.signatures]
        signed += [people.of_identity(*who) for who in found.endorsed]
        return list({person.name: person for person in signed if person is not None}.values())

    def _newcomers(self, known: Held | None, people: list[Person]) -> list[Person]:
        """Who signed only now and has to be fit to, whoever signed before; a second key makes nobody new."""
        before = {person.name for person in self._signers(known)} if known is not None else set()
        return [person for person in people if person.name not in before] or people

    async def revoke(self, name: str, reason: str, origin: str, now_ns: int, before: Before) -> Taken:
        """In the name of the daemon's operators, who sign with the control plane's key. Again is without effect.

        Raises:
            ApprovalRefusedError: `approval_unknown`, `approval_malformed`.
            TryAgainError: as for `take`.
        """
        async with self._one_by_one:
            target_of(self.ledger, name)
            known = self.ledger.revoked.get(name)
            if known is not None:
                return Taken(known, (), fresh=False)
            said = Revocation(object=name, reason=reason, at=moment(now_ns))
            payload = statement_bytes(said)
            read_statement(payload)
            envelope = Envelope(payload, {}).signed_by(self._key)
            found = Held(StoredObject(object_id(payload), payload, now_ns, origin, envelope.signatures, {}), said)
            taken = Taken(found, (), fresh=True)
            await before(taken)
            await to_the_end(self._put(found))
            return taken

    def _ends(self, predicate: Predicate) -> bool:
        """What was signed can be taken back though there is no room: at most once for each object."""
        return isinstance(predicate, Revocation) and predicate.object not in self.ledger.revoked

    async def _put(self, found: Held) -> None:
        await asyncio.to_thread(self._store.add, found.stored)
        self.ledger.put(found)

    async def use(
        self, asked: Asked, stage: str, audience: str, decision: str, waived: Mapping[str, Sequence[str]], now_ns: int
    ) -> list[Use]:
        """Count what a decision stands on: exception to the codes it sets aside. Durable when this returns, all or
        none; the same job, stage and audience count once.

        Raises:
            ApprovalRefusedError: one of them does not hold for this, now.
            TryAgainError: reason `approvals_unavailable`.
        """
        async with self._one_by_one:
            uses = [self._use(asked, stage, audience, decision, name, codes, now_ns) for name, codes in waived.items()]
            fresh = [use for use in uses if self.ledger.use_of(use.key) is None]
            if fresh:
                await to_the_end(self._count(fresh))
            return uses

    async def _count(self, uses: Sequence[Use]) -> None:
        await asyncio.to_thread(self._store.use, uses)
        self.use_count += len(uses)
        for use in uses:
            self.ledger.used(use)

    def _use(
        self, asked: Asked, stage: str, audience: str, decision: str, name: str, codes: Sequence[str], now_ns: int
    ) -> Use:
        one = self.ledger.objects.get(name)
        if one is None or not isinstance(one.predicate, RuleException):
            raise ApprovalRefusedError("approval_unknown", f"there is no exception {name}")
        self.ledger.judged(one, asked, now_ns)
        if not set(codes) <= set(one.predicate.waives):
            raise ApprovalRefusedError(
                "approval_not_permitted", "it does not waive what the decision set aside with it"
            )
        known = self.ledger.use_of((name, asked.job, stage, audience))
        if known is not None:
            return known
        jobs = self.ledger.jobs_of(name)
        number = jobs.get(asked.job, len(jobs) + 1)
        issuer, repository_id = asked.repository
        own = tuple(sorted(one.name for one in self.ledger.people.by_name.values() if judging.is_own(one, asked)))
        return Use(
            name, asked.job, stage, audience, number, now_ns, decision, tuple(codes), asked.environment, issuer,
            repository_id, own,
        )  # fmt: skip

    def untold(self, uses: Iterable[Use]) -> list[Use]:
        """Those that the job's journal does not have yet."""
        return [use for use in uses if use.key not in self._told]

    async def tell(self, uses: Sequence[Use]) -> None:
        """The job's journal has them.

        Raises:
            TryAgainError: reason `approvals_unavailable`.
        """
        keys = [use.key for use in uses]
        await asyncio.to_thread(self._store.tell, keys)
        self._told.update(keys)

    async def _forget(self, now_ns: int) -> None:
        due = set(self.ledger.unreviewed(now_ns)) if self.ledger.limits.review_ns else set()
        all_ = [(name, one.predicate) for name, one in self.ledger.objects.items()]
        lasting = [(name, said) for name, said in all_ if isinstance(said, Lasting) and name not in due]
        old = {name for name, said in lasting if moment_ns(said.expires_at) + KEPT_NS < now_ns}
        closing = {name for name, said in all_ if isinstance(said, Revocation | Review) and said.object in old}
        if old:
            await asyncio.to_thread(self._store.forget, [*closing, *old])
            self.ledger.drop([*closing, *old])
