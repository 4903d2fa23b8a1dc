"""Why an object does not count, by name."""

from __future__ import annotations

from orchestrator.errors import GiveUpError


class ApprovalRefusedError(GiveUpError):
    """An object is not taken, or does not bear on a question. `reason` is one of those in `FIXES`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message, reason=reason, fix=FIXES[reason])


FIXES = {
    # what was given in
    "approval_malformed": "make it with `orchestrator approvals request`, and change no byte of it afterwards",
    "approval_too_long": "ask for less; the settings under approvals hold the longest life of each kind",
    "approval_forged": "sign it anew; what was changed after it was signed proves nothing",
    "approval_signer_unknown": "sign with a key that the approvers' file lists for a person",
    "approval_not_permitted": "ask somebody whom the approvers' file lets sign this kind in this environment",
    "approval_unknown": "see `orchestrator approvals list`",
    "approval_unused": "only an exception that was used is reviewed; take it back with `approvals revoke`",
    "approval_own_review": "have it reviewed by somebody who neither asked for it, nor signed it, nor ran its job",
    # whether it counts now, and here
    "approval_not_yet_valid": "wait until it begins, or have one signed that begins earlier",
    "approval_expired": "have a new one signed; an expired one never counts again",
    "approval_revoked": "have a new one signed; a revoked one never counts again",
    "approval_other_environment": "have one signed for the environment that the job deploys to",
    "approval_other_artifact": "have one signed for the digest that the job deploys",
    "approval_other_repository": "have one signed for the repository that the job and its artifact come from",
    "approval_other_commit": "have one signed for the commit that the artifact was built from",
    "approval_other_job": "have one signed for this job",
    "approval_own": "have it approved by somebody else: nobody approves for a job or a build of their own",
    "exception_requester_unsigned": "have the person named in requested_by sign it too",
    "exception_approvers_missing": "have more people sign it; whoever asked for it or runs the job does not count",
    "exception_exhausted": "have a new one signed; this one was used as often as it says",
    "exception_review_overdue": "review what was used before: `orchestrator approvals review`",
}
"""What a person can do about each."""
