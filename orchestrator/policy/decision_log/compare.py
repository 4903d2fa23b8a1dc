"""What differs between two answers to one question. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from orchestrator.model.decision import Verdict
from orchestrator.policy.document import DecisionDocument, Evaluation


class Change(StrEnum):
    """The gravest difference between an old answer and a new one, in this order.

    *failed*: the new bundle errs or has no answer, where the old one had. *other_observations*: other reasons of rules
    that are only watched, or other exceptions used.
    """

    FAILED = "failed"
    NEWLY_DENIED = "newly_denied"
    NEWLY_ALLOWED = "newly_allowed"
    OTHER_REASONS = "other_reasons"
    OTHER_OBLIGATIONS = "other_obligations"
    OTHER_OBSERVATIONS = "other_observations"


SAME = "same"
_NO_ANSWER = (Verdict.ERROR, Verdict.UNDEFINED)


@dataclass(frozen=True, slots=True)
class Difference:
    """`appeared` and `vanished` are the codes of the reasons that only the new, or only the old answer has: of what it
    watches for `other_observations`, else of what it denies by."""

    change: Change
    appeared: frozenset[str]
    vanished: frozenset[str]


def difference(old: Evaluation, new: Evaluation) -> Difference | None:
    """How `new` differs from `old`; None where it does not. Messages may be worded anew: only codes count."""
    before, after = codes_of(old), codes_of(new)
    change = _change(old, new)
    if change is None:
        return None
    if change is Change.OTHER_OBSERVATIONS:
        before, after = _watched(old.document), _watched(new.document)
    return Difference(change, after - before, before - after)


def _change(old: Evaluation, new: Evaluation) -> Change | None:
    if new.verdict in _NO_ANSWER and new.verdict is not old.verdict:
        return Change.FAILED
    was, is_ = old.verdict is Verdict.ALLOW, new.verdict is Verdict.ALLOW
    if was != is_:
        return Change.NEWLY_DENIED if was else Change.NEWLY_ALLOWED
    if old.verdict is not new.verdict or codes_of(old) != codes_of(new):
        return Change.OTHER_REASONS
    if old.document is None or new.document is None:
        return None
    if is_ and old.document.obligations != new.document.obligations:
        return Change.OTHER_OBLIGATIONS
    if _watched(old.document) != _watched(new.document):
        return Change.OTHER_OBSERVATIONS
    return None


def codes_of(evaluation: Evaluation) -> frozenset[str]:
    """The codes of an answer's reasons; one of ours where there is no answer."""
    if evaluation.document is None:
        return frozenset((f"policy_{evaluation.verdict.value}",))
    return frozenset(reason.code for reason in evaluation.document.reasons)


def _watched(document: DecisionDocument | None) -> frozenset[str]:
    if document is None:
        return frozenset()
    waived = (code for waiver in document.waived for code in waiver.codes)
    return frozenset((*(reason.code for reason in document.observed), *waived))
