"""Whether an object bears on a question, now. Pure: the time, the people and what was used are arguments.

Each function answers with the first thing that is wrong, by name, or lets the object pass.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from orchestrator.evidence.approvals.people import People, Person
from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.approvals.statements import SECOND, Approval, Lasting, RuleException, moment_ns
from orchestrator.model.job import Caller

BREAK_GLASS: Final = "break_glass"


@dataclass(frozen=True, slots=True)
class Limits:
    """The most that may be signed for; times in nanoseconds. `review_ns` of 0: nobody has to review."""

    max_approval_ns: int = 7 * 86400 * SECOND
    max_break_glass_ns: int = 4 * 3600 * SECOND
    max_override_ns: int = 3600 * SECOND
    break_glass_approvers: int = 2
    max_uses: int = 20
    review_ns: int = 3 * 86400 * SECOND

    def longest_ns(self, predicate: Lasting) -> int:
        if isinstance(predicate, Approval):
            return self.max_approval_ns
        return self.max_break_glass_ns if predicate.kind == BREAK_GLASS else self.max_override_ns

    def approvers(self, predicate: Lasting) -> int:
        """How many people must have signed it, besides whoever asked for it."""
        return self.break_glass_approvers if predicate.kind == BREAK_GLASS else 1


@dataclass(frozen=True, slots=True)
class Asked:
    """A job, and where it wants to go with what: all of it verified by us. `built` is the provenance of the artifact
    that we proved, empty where there is none."""

    job: str
    caller: Caller
    environment: str
    artifact_digest: str = ""
    built: Mapping[str, str] = field(default_factory=dict)

    @property
    def repository(self) -> tuple[str, str]:
        """Issuer and id of the job's own repository; two empty texts where its caller has none."""
        repository_id = self.caller.facts.get("repository_id", "")
        return (self.caller.issuer, repository_id) if repository_id else ("", "")

    @property
    def source(self) -> tuple[str, str]:
        """Issuer and id of the repository that the artifact was built from, as we proved it; the job's own where it has
        no artifact."""
        if self.artifact_digest:
            return self.built.get("caller_issuer", ""), self.built.get("repository_id", "")
        return self.repository

    @property
    def commit(self) -> str:
        """The commit of `source`."""
        return self.built.get("sha", "") if self.artifact_digest else self.caller.facts.get("sha", "")


@dataclass(frozen=True, slots=True)
class Standing:
    """What has happened to an object besides being signed. `signers` are names of people; `used_by` are ids of jobs;
    `overdue` names an exception that should have been reviewed before this one may count, for the question asked."""

    signers: frozenset[str] = frozenset()
    revoked: bool = False
    used_by: Collection[str] = ()
    overdue: str = ""


def refuse_life(predicate: Lasting, standing: Standing, limits: Limits, now_ns: int) -> None:
    """Whether it counts at all at this time.

    Raises:
        ApprovalRefusedError: `approval_revoked`, `approval_too_long`, `approval_not_yet_valid`, `approval_expired`.
    """
    if standing.revoked:
        raise ApprovalRefusedError("approval_revoked", "it was revoked")
    refuse_length(predicate, limits)
    if now_ns < moment_ns(predicate.starts_at):
        raise ApprovalRefusedError("approval_not_yet_valid", f"it does not count before {predicate.starts_at}")
    refuse_expired(predicate, now_ns)


def refuse_length(predicate: Lasting, limits: Limits) -> None:
    """Raises ApprovalRefusedError `approval_too_long`: it asks for more time, or more uses, than anybody may have."""
    longest = limits.longest_ns(predicate)
    if moment_ns(predicate.expires_at) - moment_ns(predicate.starts_at) > longest:
        raise ApprovalRefusedError(
            "approval_too_long", f"expires_at lies more than {longest // SECOND} s after starts_at"
        )
    if isinstance(predicate, RuleException) and predicate.max_uses > limits.max_uses:
        raise ApprovalRefusedError(
            "approval_too_long", f"max_uses is {predicate.max_uses}, more than {limits.max_uses}"
        )


def refuse_expired(predicate: Lasting, now_ns: int) -> None:
    """Raises ApprovalRefusedError `approval_expired`."""
    if now_ns >= moment_ns(predicate.expires_at):
        raise ApprovalRefusedError("approval_expired", f"it expired at {predicate.expires_at}")


def refuse_scope(predicate: Lasting, asked: Asked) -> None:
    """Whether it is about what is asked.

    Raises:
        ApprovalRefusedError: `approval_other_environment`, `_artifact`, `_repository`, `_commit` or `_job`.
    """
    if predicate.environment != asked.environment:
        raise ApprovalRefusedError("approval_other_environment", f"it is for {predicate.environment}")
    if predicate.artifact_digest and predicate.artifact_digest != asked.artifact_digest:
        raise ApprovalRefusedError("approval_other_artifact", f"it is for {predicate.artifact_digest}")
    if isinstance(predicate, Approval):
        _refuse_source(predicate, asked)
        return
    if predicate.repository_id and (predicate.issuer, predicate.repository_id) != asked.repository:
        raise ApprovalRefusedError("approval_other_repository", f"it is for jobs of {_named(predicate)}")
    if predicate.job and predicate.job != asked.job:
        raise ApprovalRefusedError("approval_other_job", f"it is for job {predicate.job}")


def _refuse_source(predicate: Approval, asked: Asked) -> None:
    if not predicate.repository_id:
        return
    if (predicate.issuer, predicate.repository_id) != asked.source:
        raise ApprovalRefusedError("approval_other_repository", f"it is for {_named(predicate)}")
    if predicate.commit != asked.commit:
        raise ApprovalRefusedError("approval_other_commit", f"it is for commit {predicate.commit}")


def _named(predicate: Lasting) -> str:
    return f"repository {predicate.repository_id} of {predicate.issuer}"


def is_own(person: Person, asked: Asked) -> bool:
    """Whether the job is this person's, or the artifact was built for them."""
    caller = asked.caller
    if (caller.issuer, caller.subject) in person.identities:
        return True
    if any(
        caller.facts.get(fact) in values or asked.built.get(fact) in values for fact, values in person.facts.items()
    ):
        return True
    builder = asked.built.get("caller", "")
    return bool(builder) and any(Caller(issuer, subject).id == builder for issuer, subject in person.identities)


def entitled(predicate: Lasting, signers: Collection[str], people: People) -> list[Person]:
    """Those of the signers who may sign such an object today, and did not ask for it themselves; by name."""
    requester = predicate.requested_by if isinstance(predicate, RuleException) else ""
    found = (people.by_name.get(name) for name in sorted(signers) if name != requester)
    return [one for one in found if one is not None and one.may_sign(predicate.kind, predicate.environment)]


def refuse_signers(predicate: Lasting, signers: Collection[str], people: People, limits: Limits) -> list[Person]:
    """Those whose signatures let it count, whatever it is used for; by name.

    Raises:
        ApprovalRefusedError: `approval_not_permitted`, `exception_requester_unsigned`, `exception_approvers_missing`.
    """
    found = entitled(predicate, signers, people)
    if isinstance(predicate, Approval):
        if not found:
            text = f"nobody who may give {predicate.kind} for {predicate.environment} has signed it"
            raise ApprovalRefusedError("approval_not_permitted", text)
        return found
    if predicate.requested_by not in signers or predicate.requested_by not in people.by_name:
        raise ApprovalRefusedError("exception_requester_unsigned", f"{predicate.requested_by} has not signed it")
    wanted = limits.approvers(predicate)
    if len(found) < wanted:
        text = f"{len(found)} of {wanted} people who may approve it have signed it"
        raise ApprovalRefusedError("exception_approvers_missing", text)
    return found


def refuse_uses(predicate: RuleException, standing: Standing, job: str = "") -> int:
    """How many other jobs have used it.

    Raises:
        ApprovalRefusedError: `exception_exhausted`, `exception_review_overdue`.
    """
    others = sum(one != job for one in standing.used_by)
    if others >= predicate.max_uses:
        raise ApprovalRefusedError("exception_exhausted", f"{others} jobs have used it, as many as it is for")
    if predicate.kind == BREAK_GLASS and standing.overdue:
        text = f"exception {standing.overdue} was used here and not reviewed"
        raise ApprovalRefusedError("exception_review_overdue", text)
    return others


def approval_rows(
    name: str, predicate: Approval, standing: Standing, people: People, asked: Asked, limits: Limits, now_ns: int
) -> list[dict[str, Any]]:
    """`input.approvals`: one for each person who signed. Their own are told as such, for policy to refuse by name.

    Raises:
        ApprovalRefusedError: it does not bear on the question.
    """
    refuse_life(predicate, standing, limits, now_ns)
    refuse_scope(predicate, asked)
    return [
        {
            "id": name,
            "kind": predicate.kind,
            "environment": predicate.environment,
            "artifact_digest": predicate.artifact_digest,
            "repository_id": predicate.repository_id,
            "commit": predicate.commit,
            "approver": person.name,
            "approver_subjects": person.subjects(),
            "own": is_own(person, asked),
            "approved_at": predicate.starts_at,
            "expires_at": predicate.expires_at,
            "reason": predicate.reason,
        }
        for person in refuse_signers(predicate, standing.signers, people, limits)
    ]


def exception_row(
    name: str, predicate: RuleException, standing: Standing, people: People, asked: Asked, limits: Limits, now_ns: int
) -> dict[str, Any]:
    """`input.exceptions`: one that holds for the question. Nobody who signed it as approver has anything to do with the
    job: `own` is never true, and there so that policy can insist.

    Raises:
        ApprovalRefusedError: it does not bear on the question.
    """
    refuse_life(predicate, standing, limits, now_ns)
    refuse_scope(predicate, asked)
    signers = refuse_signers(predicate, standing.signers, people, limits)
    approvers = [person for person in signers if not is_own(person, asked)]
    if len(approvers) < limits.approvers(predicate):
        own = ", ".join(person.name for person in signers if person not in approvers)
        raise ApprovalRefusedError("approval_own", f"it is a job or a build of {own}, who signed it as approver")
    others = refuse_uses(predicate, standing, asked.job)
    return {
        "id": name,
        "kind": predicate.kind,
        "environment": predicate.environment,
        "repository_id": predicate.repository_id,
        "job": predicate.job,
        "artifact_digest": predicate.artifact_digest,
        "waives": list(predicate.waives),
        "requested_by": predicate.requested_by,
        "approvers": [person.name for person in approvers],
        "own": False,
        "reason": predicate.reason,
        "ticket": predicate.ticket,
        "starts_at": predicate.starts_at,
        "expires_at": predicate.expires_at,
        "uses": others,
        "max_uses": predicate.max_uses,
    }
