"""One record of the audit log: what it says, its one JSON form, its hash and its place in the chain. Pure.

A record is a line of JSON without white space, keys sorted, UTF-8. `seq` counts from 1; `prev` is the `hash` of the
record before (64 zeros before the first); `hash` is the SHA-256 of the line without its `hash` member, in
hexadecimal. So a changed byte shows in its own record, and a missing or moved record in the next one's `prev`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, TypeAlias

import msgspec

from orchestrator.errors import GiveUpError

MAX_RECORD_BYTES: Final = 64 << 10
"""Most bytes of a line, its newline not counted."""

MAX_TEXT_CHARS: Final = 2048
"""Most characters of `actor`, `workflow` and each of the other texts beside `data`."""

MAX_DEPTH: Final = 8
"""Deepest nesting within `data`."""

FIRST_PREV: Final = "0" * 64
"""What the first record follows."""

_KIND: Final = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+")
_HASH_KEY: Final = b',"hash":"'
_MAX_INT: Final = 2**63 - 1

Json: TypeAlias = "bool | int | str | Sequence[Json] | Mapping[str, Json] | None"
"""What `data` may hold. No floating point: it has more than one spelling, and a hash needs one."""


class RecordRefusedError(GiveUpError):
    """An event that cannot be written: `audit_record_invalid` or `audit_record_too_large`. Never repeats its values."""

    reason = "audit_record_invalid"


class RecordDamagedError(Exception):
    """A line that is no record; the message says why, without repeating the line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """What a record tells. The four that every record must answer have no default: `workflow`, `commit`, `environment`
    and `outcome`; they are empty only where nothing is known.

    `kind` is two or more words with dots, past tense last (`token.issued`). `at_ns` is Unix time in nanoseconds.
    `actor` is who did it: a caller, `policy`, `daemon`. `workflow` names the workflow or pipeline, `commit` the
    commit's hash, `environment` the deployment environment, `outcome` policy's answer. `data` holds what else is to
    be known: ids, verdicts, rule names and digests, never values (see `keyed`). `journal_seq` is the fact's place in
    the journal, 0 for what is no fact.
    """

    kind: str
    at_ns: int
    actor: str
    workflow: str
    commit: str
    environment: str
    outcome: str
    job_id: str = ""
    trace_id: str = ""
    data: Mapping[str, Json] = field(default_factory=dict)
    journal_seq: int = 0


@dataclass(frozen=True, slots=True)
class Prepared:
    """An event that was checked and encoded, all but its place in the chain. Made by `prepare`."""

    journal_seq: int
    head: bytes
    middle: bytes
    tail: bytes

    def line(self, seq: int, prev: str) -> tuple[bytes, str]:
        """The record's line, without newline, and its hash, as record `seq` after the one whose hash is `prev`."""
        rest = b'%b,"prev":"%b","seq":%d,%b' % (self.middle, prev.encode(), seq, self.tail)
        own = sha256(self.head + rest).hexdigest()
        return b'%b,"hash":"%b"%b' % (self.head, own.encode(), rest), own


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line that was read. Its members stand in the order of the line; `data` is decoded by `data_of` alone."""

    actor: str
    at_ns: int
    commit: str
    data: msgspec.Raw
    environment: str
    hash: str
    job_id: str
    journal_seq: int
    kind: str
    outcome: str
    prev: str
    seq: int
    trace_id: str
    workflow: str


def _plain(value: object) -> object:
    """What `_check_json` let through and the encoder does not know by itself."""
    return dict(value) if isinstance(value, Mapping) else str(value)


_encode = msgspec.json.Encoder(order="sorted", enc_hook=_plain).encode
_encode_record = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(Record).decode


def prepare(event: AuditEvent) -> Prepared:
    """Check and encode.

    Raises:
        RecordRefusedError: a member is of another type than declared or out of its bound, or the record is too large.
    """
    _check(event)
    try:
        head = _encode(
            {
                "actor": event.actor,
                "at_ns": event.at_ns,
                "commit": event.commit,
                "data": event.data,
                "environment": event.environment,
            }
        )[:-1]
        middle = _encode(
            {
                "job_id": event.job_id,
                "journal_seq": event.journal_seq,
                "kind": event.kind,
                "outcome": event.outcome,
            }
        )[1:-1]
        tail = _encode({"trace_id": event.trace_id, "workflow": event.workflow})[1:]
    except UnicodeEncodeError:
        raise RecordRefusedError(
            f"an audit event of kind {event.kind} holds text that is no Unicode", fix="report this defect"
        ) from None
    size = len(head) + len(middle) + len(tail) + _CHAIN_BYTES
    if size > MAX_RECORD_BYTES:
        raise RecordRefusedError(
            f"an audit event of kind {event.kind} takes {size} bytes of {MAX_RECORD_BYTES}",
            reason="audit_record_too_large",
            fix="report this defect: what is told of a job is bounded",
        )
    return Prepared(event.journal_seq, head, b"," + middle, tail)


_CHAIN_BYTES: Final = 200
"""More than `hash`, `prev` and `seq` take."""


def _check(event: AuditEvent) -> None:
    if len(event.kind) > 64 or not _KIND.fullmatch(event.kind):
        raise RecordRefusedError("an audit event's kind is not of the form word.word", fix="report this defect")
    for name in ("actor", "workflow", "commit", "environment", "outcome", "job_id", "trace_id"):
        text = getattr(event, name)
        if not isinstance(text, str) or len(text) > MAX_TEXT_CHARS:
            raise _refused(event, name, f"is no text of at most {MAX_TEXT_CHARS} characters")
    for name in ("at_ns", "journal_seq"):
        number = getattr(event, name)
        if type(number) is not int or not 0 <= number <= _MAX_INT:
            raise _refused(event, name, "is no number from 0 to 2**63 - 1")
    if not isinstance(event.data, Mapping):
        raise _refused(event, "data", "is no mapping")
    _check_json(event, event.data, "data", MAX_DEPTH)


def _check_json(event: AuditEvent, value: object, name: str, depth: int) -> None:
    if value is None or isinstance(value, str | bool):
        return
    if isinstance(value, int):
        if not -_MAX_INT <= value <= _MAX_INT:
            raise _refused(event, name, "is a number beyond 63 bits")
        return
    if depth == 0:
        raise _refused(event, name, f"is nested more than {MAX_DEPTH} deep")
    if isinstance(value, Mapping):
        for key, one in value.items():
            if not isinstance(key, str):
                raise _refused(event, name, "has a key that is no text")
            _check_json(event, one, name, depth - 1)
    elif isinstance(value, list | tuple):
        for one in value:
            _check_json(event, one, name, depth - 1)
    else:
        raise _refused(event, name, f"holds a {type(value).__name__}, which has no one JSON form")


def _refused(event: AuditEvent, name: str, why: str) -> RecordRefusedError:
    return RecordRefusedError(f"an audit event of kind {event.kind}: {name} {why}", fix="report this defect")


def read_line(line: bytes) -> Record:
    """The record in a line without its newline, once its form and its own hash hold.

    Raises:
        RecordDamagedError: it is no record, not in the one form, or not what its hash was made of.
    """
    if len(line) > MAX_RECORD_BYTES:
        raise RecordDamagedError(f"it takes more than {MAX_RECORD_BYTES} bytes")
    try:
        record = _decode_record(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise RecordDamagedError("it cannot be read as a record") from None
    if _encode_record(record) != line:
        raise RecordDamagedError("it is not in the form in which records are written")
    # Behind `data` there are only texts and numbers, and in a text the quotes would be escaped.
    start = line.rfind(_HASH_KEY)
    if sha256(line[:start] + line[start + len(_HASH_KEY) + 65 :]).hexdigest() != record.hash:
        raise RecordDamagedError("its content is not what its hash was made of")
    return record


def data_of(record: Record) -> dict[str, Any]:
    """`data`, decoded."""
    decoded: dict[str, Any] = msgspec.json.decode(record.data, type=dict[str, Any])
    return decoded
