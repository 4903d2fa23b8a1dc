"""`orchestrator approvals request`: an approval, a break-glass or an override, made of options."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from orchestrator.cli.approvals.options import Json, Key, Output, Reason, sign_and_give_in

if TYPE_CHECKING:
    from orchestrator.evidence.approvals.statements import Approval, RuleException

_SHA = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
_GITHUB = "https://token.actions.githubusercontent.com"
_EXCEPTIONS = ("break_glass", "override")

REQUEST_EXAMPLES = (
    f"orchestrator approvals request security -e prod --artifact {_SHA} -r 'reviewed the diff' --key alice.pem",
    "orchestrator approvals request break_glass -e prod --repository-id 42 --waive scan_missing --as carol -r down",
    "orchestrator approvals request override -e prod --job dispatch.3f2a.1 --waive scan_stale --as carol -r soon",
)


def request(
    context: typer.Context,
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="`break_glass`, `override`, or what an approval is for: `security`…")
    ],
    environment: Annotated[str, typer.Option("--environment", "-e", help="Where it counts, such as `prod`.")],
    reason: Reason,
    artifact: Annotated[str, typer.Option("--artifact", metavar="DIGEST", help="Only for this `sha256:…`.")] = "",
    repository_id: Annotated[str, typer.Option("--repository-id", help="The repository's number.")] = "",
    issuer: Annotated[str, typer.Option("--issuer", help="Whose number that is: an issuer of callers.")] = _GITHUB,
    commit: Annotated[str, typer.Option("--commit", help="An approval for what was built from it.")] = "",
    job: Annotated[str, typer.Option("--job", help="An exception for this job, by its whole id.")] = "",
    waive: Annotated[
        list[str] | None, typer.Option("--waive", metavar="CODE", help="A rule to set aside; may be repeated.")
    ] = None,
    requester: Annotated[str, typer.Option("--as", metavar="NAME", help="Who asks for an exception: you.")] = "",
    ticket: Annotated[str, typer.Option("--ticket", help="The incident or change an exception belongs to.")] = "",
    starts: Annotated[str, typer.Option("--starts", help="RFC 3339 time from which it counts. Default: now.")] = "",
    lasts: Annotated[
        str, typer.Option("--lasts", help="How long: `30m`, `4h`, `7d`. Default: 24h; 1h and 30m for exceptions.")
    ] = "",
    uses: Annotated[int, typer.Option("--uses", help="How many jobs may use an exception.")] = 1,
    key: Key = None,
    output: Output = None,
    json: Json = False,
) -> None:
    """Make an approval or an exception, sign it with a key, and give it in.

    Without `--key` the token that is shown signs it, if it is one of an issuer for people.
    """
    from orchestrator.cli.approvals.files import draft, life

    starts_at, expires_at = life(kind, starts, lasts)
    about = {"environment": environment, "reason": reason, "starts_at": starts_at, "expires_at": expires_at}
    about |= {"artifact_digest": artifact, "repository_id": repository_id, "issuer": issuer if repository_id else ""}
    wanted: Approval | RuleException
    told: dict[str, object]
    if kind in _EXCEPTIONS:
        told = {"--commit": commit}
        wanted = _exception(kind, about, job, requester, ticket, tuple(waive or ()), uses)
    else:
        told = {"--job": job, "--waive": waive, "--as": requester, "--ticket": ticket, "--uses": uses != 1}
        wanted = _approval(kind, about, commit)
    _refuse_others(kind, told)
    sign_and_give_in(context, draft(wanted), key, output, json=json)


def _exception(
    kind: str, about: Mapping[str, str], job: str, requester: str, ticket: str, waives: tuple[str, ...], uses: int
) -> RuleException:
    from orchestrator.cli.exits import UsageError
    from orchestrator.evidence.approvals.statements import RuleException

    if not requester:
        raise UsageError(f"who asks for the {kind}?", fix="--as NAME, your name in the approvers' file")
    if not waives:
        raise UsageError(f"which rule does the {kind} set aside?", fix="--waive CODE, as the refusal names it")
    if uses < 1:
        raise UsageError(f"--uses is {uses}", fix="give 1 or more")
    return RuleException(
        kind="break_glass" if kind == "break_glass" else "override",
        job=job,
        requested_by=requester,
        ticket=ticket,
        waives=waives,
        max_uses=uses,
        **about,
    )


def _approval(kind: str, about: Mapping[str, str], commit: str) -> Approval:
    from orchestrator.evidence.approvals.statements import Approval

    return Approval(kind=kind, commit=commit, **about)


def _refuse_others(kind: str, told: Mapping[str, object]) -> None:
    """Raises UsageError: an option is given that this kind does not have."""
    from orchestrator.cli.exits import UsageError

    given = [name for name, value in told.items() if value]
    if given:
        raise UsageError(f"{kind} has no {given[0]}", fix="see `orchestrator approvals request --help`")
