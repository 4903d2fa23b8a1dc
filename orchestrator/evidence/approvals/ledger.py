"""What is known of all objects, in memory: who signed each, what became of it, and what may count on a question."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from orchestrator.evidence.approvals import judging
from orchestrator.evidence.approvals.envelopes import Envelope, read_envelope
from orchestrator.evidence.approvals.judging import BREAK_GLASS, Asked, Limits, Standing
from orchestrator.evidence.approvals.keys import PublicKey
from orchestrator.evidence.approvals.people import People, Person
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import (
    Approval,
    Endorsement,
    Lasting,
    Predicate,
    Review,
    Revocation,
    RuleException,
    moment,
    object_id,
    read_statement,
)
from orchestrator.evidence.approvals.store import StoredObject, Use

MAX_APPROVALS: Final = 200
MAX_EXCEPTIONS: Final = 50
"""Told to policy about one question; those that last longest."""


@dataclass(frozen=True, slots=True)
class Held:
    """An object as it is kept. `endorsed` are the (issuer, subject) whose word the control plane gave; checked."""

    stored: StoredObject
    predicate: Predicate
    endorsed: frozenset[tuple[str, str]] = frozenset()

    @property
    def id(self) -> str:
        return self.stored.id

    @property
    def envelope(self) -> Envelope:
        return Envelope(self.stored.payload, self.stored.signatures)


def held(stored: StoredObject, own_keys: Mapping[str, PublicKey]) -> Held:
    """A stored object, read again. `own_keys` are the control plane's.

    Raises:
        ApprovalRefusedError: it is not what its id says, or no object at all.
    """
    if object_id(stored.payload) != stored.id:
        raise ApprovalRefusedError("approval_forged", f"what is kept as {stored.id} is another object")
    endorsed = {
        who for who, text in stored.endorsements.items() if _endorses(text, stored.id, who, own_keys)
    }  # fmt: skip
    return Held(stored, read_statement(stored.payload), frozenset(endorsed))


def _endorses(text: str, name: str, who: tuple[str, str], own_keys: Mapping[str, PublicKey]) -> bool:
    try:
        envelope = read_envelope(text)
        said = read_statement(envelope.payload)
        signed = bool(envelope.signers(own_keys))
    except ApprovalRefusedError:
        return False
    return signed and isinstance(said, Endorsement) and said.object == name and (said.issuer, said.subject) == who


class Ledger:
    """Only its owner changes it, on one thread."""

    def __init__(self, people: People, limits: Limits) -> None:
        self.limits = limits
        self.objects: dict[str, Held] = {}
        self.revoked: dict[str, Held] = {}
        """Object to the revocation that ended it first."""
        self.reviews: dict[str, list[Held]] = {}
        self._uses: dict[str, dict[tuple[str, str, str, str], Use]] = {}
        self._lasting: dict[str, dict[str, Held]] = {}
        """Environment to the objects that count there, or did."""
        self._people = people
        self._signers: dict[str, frozenset[str]] = {}

    @property
    def people(self) -> People:
        return self._people

    @people.setter
    def people(self, people: People) -> None:
        self.put_in_force(people, {})

    def put_in_force(self, people: People, signers: Mapping[str, tuple[Held, frozenset[str]]]) -> None:
        """Other people from now on. `signers` are what `signed_by` told of them, for objects as they were then; of the
        others it is found out when it is asked for."""
        self._people = people
        same = ((name, found) for name, (one, found) in signers.items() if self.objects.get(name) is one)
        self._signers = dict(same)

    def put(self, one: Held) -> None:
        """A new object, or one with more signatures than before."""
        self.objects[one.id] = one
        self._signers.pop(one.id, None)
        match one.predicate:
            case Approval(environment=environment) | RuleException(environment=environment):
                self._lasting.setdefault(environment, {})[one.id] = one
            case Revocation(object=target):
                self.revoked.setdefault(target, one)
            case Review(object=target):
                self.reviews.setdefault(target, []).append(one)
            case Endorsement():
                raise AssertionError("endorsements are kept with what they endorse")

    def used(self, use: Use) -> None:
        self._uses.setdefault(use.exception, {})[use.key] = use

    def use_of(self, key: tuple[str, str, str, str]) -> Use | None:
        return self._uses.get(key[0], {}).get(key)

    def uses_of(self, name: str) -> list[Use]:
        """Oldest first."""
        return list(self._uses.get(name, {}).values())

    def jobs_of(self, name: str) -> dict[str, int]:
        """The jobs that used an exception, with their numbers."""
        return {use.job: use.number for use in self.uses_of(name)}

    def signers(self, one: Held) -> frozenset[str]:
        """Names of the people who signed it, by a key or a token of theirs as the approvers' file has them now."""
        found = self._signers.get(one.id)
        if found is None:
            found = self._signers[one.id] = _names(one, self._people)
        return found

    def standing(self, one: Held, asked: Asked | None, now_ns: int) -> Standing:
        return Standing(
            self.signers(one),
            one.id in self.revoked,
            self.jobs_of(one.id).keys(),
            self._overdue(one, asked, now_ns),
        )

    def _overdue(self, one: Held, asked: Asked | None, now_ns: int) -> str:
        """An exception that was used where this one would be, and which nobody has reviewed in time."""
        if asked is None or not isinstance(one.predicate, RuleException) or one.predicate.kind != BREAK_GLASS:
            return ""
        for name in self.unreviewed(now_ns, overdue=True):
            for use in self.uses_of(name):
                # Where one of the two has no repository, nobody can say that it is another one.
                same = ("", "") in ((place := (use.issuer, use.repository_id)), asked.repository)
                if use.environment == asked.environment and (same or place == asked.repository):
                    return name
        return ""

    def unreviewed(self, now_ns: int, *, overdue: bool = False) -> list[str]:
        """Exceptions that were used and that nobody has reviewed; with `overdue` those that should have been by now."""
        found = [name for name in self._uses if name not in self.reviews]
        if not overdue:
            return found
        if not self.limits.review_ns:
            return []
        return [name for name in found if self.uses_of(name)[0].at_ns + self.limits.review_ns <= now_ns]

    def rows(self, asked: Asked, now_ns: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """`input.approvals` and `input.exceptions` for a question."""
        approvals: dict[tuple[str, ...], dict[str, Any]] = {}
        exceptions: list[dict[str, Any]] = []
        now = moment(now_ns)
        for one in self._lasting.get(asked.environment, {}).values():
            if _end_of(one) <= now or not _about(one, asked):
                continue  # most of what is kept; these texts sort as the times do
            try:
                found = self.judged(one, asked, now_ns)
            except ApprovalRefusedError:
                continue
            if isinstance(one.predicate, RuleException):
                exceptions += found
            for row in found if isinstance(one.predicate, Approval) else ():
                key = tuple(row[name] for name in ("kind", "artifact_digest", "repository_id", "commit", "approver"))
                approvals[key] = max(approvals.get(key, row), row, key=_end)  # one person counts once
        ordered = sorted(approvals.values(), key=_end, reverse=True)
        return ordered[:MAX_APPROVALS], sorted(exceptions, key=_end, reverse=True)[:MAX_EXCEPTIONS]

    def judged(self, one: Held, asked: Asked, now_ns: int) -> list[dict[str, Any]]:
        """The rows of an object for a question.

        Raises:
            ApprovalRefusedError: it does not bear on it, and why.
        """
        standing = self.standing(one, asked, now_ns)
        match one.predicate:
            case Approval() as approval:
                return judging.approval_rows(one.id, approval, standing, self._people, asked, self.limits, now_ns)
            case RuleException() as exception:
                return [judging.exception_row(one.id, exception, standing, self._people, asked, self.limits, now_ns)]
            case _:
                raise ApprovalRefusedError("approval_unknown", "it is neither an approval nor an exception")

    def lacking(self, one: Held, now_ns: int) -> ApprovalRefusedError | None:
        """Why an approval or exception counts for nobody now; None when it does for whom it is about."""
        predicate = one.predicate
        if not isinstance(predicate, Lasting):
            return None
        standing = self.standing(one, None, now_ns)
        try:
            judging.refuse_life(predicate, standing, self.limits, now_ns)
            judging.refuse_signers(predicate, standing.signers, self._people, self.limits)
            if isinstance(predicate, RuleException):
                judging.refuse_uses(predicate, standing)
        except ApprovalRefusedError as refused:
            return refused
        return None

    def open_exceptions(self, now_ns: int) -> list[Held]:
        """Those that count now for whom they are about."""
        now = moment(now_ns)
        lasting = (one for there in self._lasting.values() for one in there.values())
        current = (one for one in lasting if isinstance(one.predicate, RuleException) and _end_of(one) > now)
        return [one for one in current if self.lacking(one, now_ns) is None]

    def drop(self, names: Iterable[str]) -> None:
        for name in names:
            one = self.objects.pop(name, None)
            if one is not None and isinstance(one.predicate, Lasting):
                self._lasting.get(one.predicate.environment, {}).pop(name, None)
            for index in (self._uses, self._signers, self.revoked, self.reviews):
                index.pop(name, None)


def signed_by(people: People, objects: Iterable[Held]) -> dict[str, tuple[Held, frozenset[str]]]:
    """By id: the object, and who of these people signed it. Takes 0.1 ms for each signature: for a thread."""
    return {one.id: (one, _names(one, people)) for one in objects}


def _names(one: Held, people: People) -> frozenset[str]:
    return frozenset(person.name for person in _signed(one, people))


def _signed(one: Held, people: People) -> Iterator[Person]:
    try:
        keys = one.envelope.signers(people.keys)
    except ApprovalRefusedError:
        return  # the store was written by somebody else
    found = [people.of_key(key) for key in keys]
    found += [people.of_identity(issuer, subject) for issuer, subject in one.endorsed]
    yield from (person for person in found if person is not None)


def _end_of(one: Held) -> str:
    assert isinstance(one.predicate, Lasting), "nothing else is in this index"
    return one.predicate.expires_at


def _about(one: Held, asked: Asked) -> bool:
    """Whether it can be about this artifact or commit at all; a hint, to look no further."""
    predicate = one.predicate
    if isinstance(predicate, Approval) and predicate.commit not in ("", asked.commit):
        return False
    return isinstance(predicate, Lasting) and predicate.artifact_digest in ("", asked.artifact_digest)


def _end(row: Mapping[str, Any]) -> tuple[str, str]:
    return row["expires_at"], row["id"]
