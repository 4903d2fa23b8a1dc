"""The objects: in-toto statements with predicates of our own. Values only.

What was signed is read back only if it is byte for byte what we would write: then two readers cannot see two things in
it. Its id is the digest of those bytes, so that the same object under other signatures is the same object.

Source: in-toto Statement v1.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Any, Final, Literal

import msgspec

from orchestrator.evidence.approvals.refusal import ApprovalRefusedError
from orchestrator.evidence.provenance import STATEMENT_TYPE

APPROVAL: Final = "urn:orchestrator:approval:v1"
EXCEPTION: Final = "urn:orchestrator:exception:v1"
REVOCATION: Final = "urn:orchestrator:revocation:v1"
REVIEW: Final = "urn:orchestrator:exception-review:v1"
ENDORSEMENT: Final = "urn:orchestrator:endorsement:v1"

MAX_STATEMENT_BYTES: Final = 32 << 10
SECOND: Final = 1_000_000_000

_TEXT: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]*$"
Code = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
PersonName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
Environment = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._:/@()+,=#-]{0,127}$")]
ObjectId = Annotated[str, msgspec.Meta(pattern=r"^sha256:[0-9a-f]{64}$")]
Digest = Annotated[str, msgspec.Meta(pattern=r"^(sha256:[0-9a-f]{64})?$")]
Commit = Annotated[str, msgspec.Meta(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})?$")]
Job = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9_-]{1,96}\.[A-Za-z0-9_-]{1,96}\.[1-9][0-9]{0,6})?$")]
Word = Annotated[str, msgspec.Meta(pattern=_TEXT, max_length=256)]
Reason = Annotated[str, msgspec.Meta(pattern=_TEXT, min_length=1, max_length=1000)]
Moment = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
"""RFC 3339 in UTC, to the second: one way to write each moment."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Of the document: every field is always there."""


class Approval(Part, frozen=True, kw_only=True):
    """Somebody lets one artifact, or what is built from one commit, into one environment.

    `kind` is what they looked at it for, such as `security` or `release`. `issuer` is that of the callers whose fact
    `repository_id` is. An empty `artifact_digest` stands for whatever was built from the commit.
    """

    kind: Code
    environment: Environment
    artifact_digest: Digest
    issuer: Word
    repository_id: Word
    commit: Commit
    reason: Reason
    starts_at: Moment
    expires_at: Moment


class RuleException(Part, frozen=True, kw_only=True):
    """Rules are set aside for a while: `waives` are codes of reasons of policy.

    What is given of repository, job and artifact narrows it; all of it has to fit. An *override* is for one rule and
    one job or artifact. `max_uses` counts jobs.
    """

    kind: Literal["break_glass", "override"]
    environment: Environment
    issuer: Word
    repository_id: Word
    job: Job
    artifact_digest: Digest
    waives: Annotated[tuple[Code, ...], msgspec.Meta(min_length=1, max_length=32)]
    requested_by: PersonName
    reason: Reason
    ticket: Word
    starts_at: Moment
    expires_at: Moment
    max_uses: Annotated[int, msgspec.Meta(ge=1, le=100)]


class Revocation(Part, frozen=True, kw_only=True):
    """An object counts no more, for ever."""

    object: ObjectId
    reason: Reason
    at: Moment


class Review(Part, frozen=True, kw_only=True):
    """Somebody looked at what was done with an exception."""

    object: ObjectId
    verdict: Literal["justified", "unjustified"]
    reason: Reason
    at: Moment


class Endorsement(Part, frozen=True, kw_only=True):
    """The control plane's word that a person, known by an OIDC token, signed an object. `token` is a digest."""

    object: ObjectId
    issuer: Word
    subject: Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
    token: ObjectId
    at: Moment


Predicate = Approval | RuleException | Revocation | Review | Endorsement
Lasting = Approval | RuleException
"""What has a life and counts during it."""

_TYPES: Final[Mapping[str, type[Predicate]]] = {
    APPROVAL: Approval,
    EXCEPTION: RuleException,
    REVOCATION: Revocation,
    REVIEW: Review,
    ENDORSEMENT: Endorsement,
}
_NAMES: Final = {kind: name for name, kind in _TYPES.items()}


def object_id(payload: bytes) -> str:
    """`sha256:<hex>` of the statement's bytes."""
    return f"sha256:{hashlib.sha256(payload).hexdigest()}"


def statement_bytes(predicate: Predicate) -> bytes:
    """The one way to write it, which is what is signed."""
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [_subject(predicate)],
        "predicateType": _NAMES[type(predicate)],
        "predicate": predicate,
    }
    return msgspec.json.encode(statement, order="sorted")


def read_statement(payload: bytes) -> Predicate:
    """The predicate of a statement that `statement_bytes` could have written, and that makes sense.

    Raises:
        ApprovalRefusedError: `approval_malformed`.
    """
    if len(payload) > MAX_STATEMENT_BYTES:
        raise _malformed(f"the statement is larger than {MAX_STATEMENT_BYTES} bytes")
    try:
        given = msgspec.json.decode(payload, type=dict[str, Any])
        kind = _TYPES.get(given["predicateType"]) if isinstance(given.get("predicateType"), str) else None
        if kind is None:
            raise _malformed(f"predicateType is none of {', '.join(_TYPES)}")
        predicate = msgspec.convert(given.get("predicate"), type=kind)
    except msgspec.ValidationError as error:
        raise _malformed(f"predicate: {_where(error)}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _malformed("the statement is no JSON object") from None
    if statement_bytes(predicate) != payload:
        raise _malformed("the statement is not written as this program writes it, so it can be read in two ways")
    _check(predicate)
    return predicate


def moment(at_ns: int) -> str:
    """Unix nanoseconds as the text that statements hold."""
    return datetime.fromtimestamp(at_ns // SECOND, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(maxsize=4096)
def moment_ns(text: str) -> int:
    """The Unix nanoseconds of a `Moment`.

    Raises:
        ApprovalRefusedError: `approval_malformed`: there is no such day or hour.
    """
    try:
        return int(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC).timestamp()) * SECOND
    except ValueError:
        raise _malformed("a time is none of the calendar") from None


def _subject(predicate: Predicate) -> dict[str, Any]:
    """What the statement is about, for tools that look at subjects: the object, artifact, commit or scope."""
    match predicate:
        case Approval(artifact_digest=digest) | RuleException(artifact_digest=digest) if digest:
            return {"name": predicate.environment, "digest": {"sha256": digest.removeprefix("sha256:")}}
        case Approval():
            return {"name": predicate.repository_id, "digest": {"gitCommit": predicate.commit}}
        case RuleException():
            scope = [predicate.environment, predicate.issuer, predicate.repository_id, predicate.job]
            return {"name": predicate.environment, "digest": {"sha256": _sha256(msgspec.json.encode(scope))}}
        case Revocation() | Review() | Endorsement():
            return {"name": "object", "digest": {"sha256": predicate.object.removeprefix("sha256:")}}


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _check(predicate: Predicate) -> None:
    """What no single field can say."""
    match predicate:
        case Approval():
            _check_life(predicate)
            _check_repository(predicate.issuer, predicate.repository_id)
            if bool(predicate.commit) != bool(predicate.repository_id):
                raise _malformed("commit and repository_id go together: a commit is one of a repository")
            if not (predicate.artifact_digest or predicate.commit):
                raise _malformed("an approval is for an artifact_digest, or for a repository_id and commit")
        case RuleException():
            _check_life(predicate)
            _check_repository(predicate.issuer, predicate.repository_id)
            _check_scope(predicate)
        case Revocation() | Review() | Endorsement():
            moment_ns(predicate.at)


def _check_life(predicate: Lasting) -> None:
    if moment_ns(predicate.expires_at) <= moment_ns(predicate.starts_at):
        raise _malformed("expires_at must be later than starts_at")


def _check_repository(issuer: str, repository_id: str) -> None:
    if bool(issuer) != bool(repository_id):
        raise _malformed("issuer and repository_id go together: an id is unique within one issuer only")


def _check_scope(predicate: RuleException) -> None:
    if len(set(predicate.waives)) != len(predicate.waives):
        raise _malformed("waives names a code twice")
    if not (predicate.repository_id or predicate.job or predicate.artifact_digest):
        raise _malformed("an exception is for a repository_id, a job or an artifact_digest, and never for everybody")
    if predicate.kind == "override" and (
        len(predicate.waives) != 1 or not (predicate.job or predicate.artifact_digest)
    ):
        raise _malformed("an override waives one rule, for one job or one artifact_digest")


def _where(error: msgspec.ValidationError) -> str:
    """The field and what it should be. Nothing in a statement is secret, and a name it should not have is repeated."""
    return str(error)[:300]


def _malformed(message: str) -> ApprovalRefusedError:
    return ApprovalRefusedError("approval_malformed", message)
