"""Whether an object that is given in is taken: somebody who may has signed it, and it can come to count. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from orchestrator.evidence.approvals.judging import Limits, refuse_expired, refuse_length
from orchestrator.evidence.approvals.ledger import Held, Ledger
from orchestrator.evidence.approvals.people import REVIEW_KIND, Person
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import (
    SECOND,
    Approval,
    Endorsement,
    Lasting,
    Review,
    Revocation,
    RuleException,
    moment_ns,
)


def refuse_taking(ledger: Ledger, found: Held, people: Sequence[Person], now_ns: int) -> None:
    """`people` are those who signed it.

    Raises:
        ApprovalRefusedError: none of them may, or it can never count.
    """
    if not people:
        raise ApprovalRefusedError("approval_signer_unknown", "nobody in the approvers' file has signed it")
    match found.predicate:
        case Approval() | RuleException() as predicate:
            if found.id in ledger.revoked:
                raise ApprovalRefusedError("approval_revoked", "it was revoked, which is for ever")
            refuse_length(predicate, ledger.limits)
            refuse_expired(predicate, now_ns)
            _refuse_far(predicate, ledger.limits, now_ns)
            _refuse_signers(predicate, people)
        case Revocation(object=name):
            _refuse_revocation(ledger, target_of(ledger, name), people)
        case Review(object=name):
            _refuse_review(ledger, target_of(ledger, name), people)
        case Endorsement():
            raise AssertionError("nobody but the control plane makes one")


def target_of(ledger: Ledger, name: str) -> Held:
    """The approval or exception of this id.

    Raises:
        ApprovalRefusedError: `approval_unknown`.
    """
    target = ledger.objects.get(name)
    if target is None or not isinstance(target.predicate, Lasting):
        raise ApprovalRefusedError("approval_unknown", f"there is no approval or exception {name}")
    return target


def _refuse_far(predicate: Lasting, limits: Limits, now_ns: int) -> None:
    """What is signed now is for now: nobody keeps a break-glass in a drawer."""
    longest = limits.longest_ns(predicate)
    if moment_ns(predicate.starts_at) > now_ns + longest:
        text = f"starts_at lies more than {longest // SECOND} s ahead"
        raise ApprovalRefusedError("approval_too_long", text)


def _refuse_signers(predicate: Lasting, people: Sequence[Person]) -> None:
    asks = isinstance(predicate, RuleException) and any(one.name == predicate.requested_by for one in people)
    if not asks and not any(one.may_sign(predicate.kind, predicate.environment) for one in people):
        text = f"{_names(people)} may not sign {predicate.kind} for {predicate.environment}"
        raise ApprovalRefusedError("approval_not_permitted", text)


def _refuse_revocation(ledger: Ledger, target: Held, people: Sequence[Person]) -> None:
    """Whoever signed it, or could have, may take it back."""
    predicate, signers = target.predicate, ledger.signers(target)
    assert isinstance(predicate, Lasting)
    if not any(one.name in signers or one.may_sign(predicate.kind, predicate.environment) for one in people):
        text = f"{_names(people)} neither signed it nor may sign {predicate.kind} for {predicate.environment}"
        raise ApprovalRefusedError("approval_not_permitted", text)


def _refuse_review(ledger: Ledger, target: Held, people: Sequence[Person]) -> None:
    predicate = target.predicate
    uses = ledger.uses_of(target.id)
    if not isinstance(predicate, RuleException) or not uses:
        raise ApprovalRefusedError("approval_unused", "it is no exception that was used")
    permitted = [one for one in people if one.may_sign(REVIEW_KIND, predicate.environment)]
    if not permitted:
        text = f"{_names(people)} may not sign {REVIEW_KIND} for {predicate.environment}"
        raise ApprovalRefusedError("approval_not_permitted", text)
    users = {name for use in uses for name in use.people}
    concerned = {predicate.requested_by} | ledger.signers(target) | users
    if all(one.name in concerned for one in permitted):
        raise ApprovalRefusedError("approval_own_review", f"{_names(permitted)} asked for it, signed it or used it")


def _names(people: Sequence[Person]) -> str:
    return ", ".join(sorted(one.name for one in people))
