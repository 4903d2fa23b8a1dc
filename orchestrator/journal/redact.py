"""The one choke point for secrets: nothing goes to a log, an API error or a stream without passing here.

Two nets. The *registry* knows each secret that was handed to a job and finds it raw, base64 (at any
alignment), base64url, hex, JSON-escaped and percent-encoded. The *patterns* find what looks like a credential
whoever made it. Both replace what they find by `***`. Neither can find a secret that a job transforms
otherwise on purpose: masking protects from accidents, short lifetimes protect from intent.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any
from urllib.parse import quote

from orchestrator.model.job import JobId

MASK = "***"
MIN_SECRET = 8
"""Shorter values are not registered: they would mask innocent text."""
MAX_PIECE = 4096
"""Longer secrets are looked for in pieces of this length, which bounds what a stream must hold back."""
MAX_TEXT = 8192
"""Longer strings in structured values are cut."""
MAX_DEPTH = 8
MAX_ITEMS = 256

MAX_NODES = 5000
"""Values of one structure that are looked at; the rest is left out."""

_KEY = 6
"""Bytes of a form's beginning under which it is filed: fewer than any form has."""
_FEW = 200
"""Fewer forms than these are looked for one by one; more of them in one pass."""
_SLACK = 8192
"""Bytes after the cut of a long string that are looked at, so that a secret across the cut is found."""

# Words that must be there for the pattern to be tried; the pattern; its group 1, if any, is what is masked.
# None may match across a line break.
_PATTERNS: Sequence[tuple[tuple[bytes, ...], re.Pattern[bytes]]] = [
    ((b"earer", b"EARER"), re.compile(rb"(?i)bearer[ :=]{1,3}([A-Za-z0-9._~+/=-]{16,})")),
    ((b"asic ", b"ASIC "), re.compile(rb"(?i)basic {1,3}([A-Za-z0-9+/=_-]{16,})")),
    ((b"eyJ",), re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*")),
    ((b"gh",), re.compile(rb"\bgh[pousr]_[A-Za-z0-9]{20,}")),
    ((b"github_pat_",), re.compile(rb"github_pat_[A-Za-z0-9_]{20,}")),
    ((b"gl",), re.compile(rb"\bgl(?:pat|ptt|dt|rt|rtr|cbt|soat|agent|imt|ft)-[A-Za-z0-9_.-]{16,}")),
    ((b"://",), re.compile(rb"://([^\s/@'\"<>:]{0,512}:[^\s/@'\"<>]{1,512})@")),
    ((b"AKIA", b"ASIA"), re.compile(rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b")),
    (
        (b"ecret", b"ECRET", b"ession", b"ESSION"),
        re.compile(rb"(?i)(?:secret_?access_?key|session_?token)[\"' ]{0,4}[:=][\"' ]{0,4}([A-Za-z0-9/+=]{40,})"),
    ),
    ((b"whs",), re.compile(rb"\bwhs(?:ec|k)_[A-Za-z0-9+/]{24,}={0,2}")),
    ((b"PRIVATE KEY",), re.compile(rb"-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----[^\r\n]{0,16384}")),
]
BEGIN_KEY = re.compile(rb"-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----")
END_KEY = re.compile(rb"-----END [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----")
_WHOLE_KEY = re.compile(
    r"-----BEGIN [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[\s\S]{0,16384}?-----END [A-Z ]{0,32}PRIVATE KEY(?: BLOCK)?-----|[\s\S]{0,16384})"
)

_SENSITIVE_KEY = re.compile(
    r"(?i)(?:^|[._-])(authorization|cookie|set[_-]cookie|password|passwd|secret|token|credential|api[_-]?key|"
    r"private[_-]?key|client[_-]secret|subject[_-]token|access[_-]token|id[_-]token|refresh[_-]token)s?$"
)

Span = tuple[int, int]
Found = tuple[int, int, int]
"""Where what identifies a secret begins, where the secret begins, where both end."""


def variants(secret: bytes) -> frozenset[bytes]:
    """Every form in which a secret is looked for; multi-line secrets line by line."""
    found: set[bytes] = set()
    for line in re.split(rb"[\r\n]+", secret):
        for start in range(0, len(line), MAX_PIECE):
            piece = line[start : start + MAX_PIECE]
            if len(piece) >= MIN_SECRET:
                found.update(form for form in _forms(piece) if len(form) >= MIN_SECRET)
    return frozenset(found)


def _forms(piece: bytes) -> Iterable[bytes]:
    yield piece
    yield piece.hex().encode()
    yield piece.hex().upper().encode()
    text = piece.decode("utf-8", "surrogateescape")
    for escaped in (json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1], quote(piece, safe="")):
        yield escaped.encode("utf-8", "surrogateescape")
    # Inside a longer base64 text a secret begins at one of three places in a group of four; the characters
    # shared with its neighbours are left out.
    for lead in range(3):
        encoded = base64.b64encode(b"\0" * lead + piece)
        inner = encoded[(0, 2, 3)[lead] : (len(piece) + lead) * 8 // 6]
        if len(inner) >= MIN_SECRET:
            yield inner
            yield inner.translate(bytes.maketrans(b"+/", b"-_"))


class Masker:
    """The registry of live secrets, by job. Register before the secret is handed out, drop when the job is gone.

    For one thread (the event loop's), but `text` and what goes through it for any.
    """

    def __init__(self) -> None:
        self._of_job: dict[str, set[bytes]] = {}
        self._filed: dict[bytes, dict[bytes, int]] = {}

    def register(self, job_id: JobId | str, secret: str | bytes) -> bool:
        """Mask `secret` from now on, in this job's log and everywhere else; False when it is too short to."""
        forms = variants(secret.encode() if isinstance(secret, str) else secret)
        known = self._of_job.setdefault(job_id, set())
        for form in forms - known:
            owners = self._filed.setdefault(form[:_KEY], {})
            owners[form] = owners.get(form, 0) + 1
        known |= forms
        return bool(forms)

    def drop(self, job_id: JobId | str) -> None:
        """Forget a job's secrets: they are worthless by now, and the registry stays small."""
        for form in self._of_job.pop(job_id, ()):
            owners = self._filed[form[:_KEY]]
            owners[form] -= 1
            if not owners[form]:
                del owners[form]
            if not owners:
                del self._filed[form[:_KEY]]

    def find(self, job_id: JobId | str, block: bytes) -> list[Found]:
        """What to mask in a block of this job's output; no find crosses a line break."""
        found = _patterns(block)
        for form in self._of_job.get(job_id, ()):
            at = block.find(form)
            while at >= 0:
                found.append((at, at, at + len(form)))
                at = block.find(form, at + 1)
        return found

    def holds(self, job_id: JobId | str, block: bytes) -> bool:
        """Whether a secret that this job was given is in `block`, in any of the forms that are looked for."""
        known: AbstractSet[bytes] = self._of_job.get(job_id, frozenset())
        if len(known) < _FEW:
            return any(form in block for form in known)
        return any(block[start:end] in known for _, start, end in self._registered(block))

    def text(self, value: str) -> str:
        """One string with every registered secret (of all jobs) and every pattern masked, cut to `MAX_TEXT` bytes."""
        begin = without_private_keys(value[: MAX_TEXT + _SLACK])
        raw = begin.encode("utf-8", "replace")
        spans = masks([*_patterns(raw), *self._registered(raw)])
        if len(raw) <= MAX_TEXT:
            shown = replaced(raw, spans).decode("utf-8", "replace") if spans else begin
            return shown if len(value) <= MAX_TEXT + _SLACK else f"{shown}…"
        inside = [span for span in spans if span[0] < MAX_TEXT]
        cut = max(MAX_TEXT, inside[-1][1]) if inside else MAX_TEXT
        return replaced(raw[:cut], inside).decode("utf-8", "ignore") + "…"

    def _registered(self, raw: bytes) -> list[Found]:
        filed = self._filed
        found: list[Found] = []
        for at in range(len(raw) - _KEY + 1) if filed else ():
            if forms := filed.get(raw[at : at + _KEY]):
                # A copy, for the event loop may register and drop secrets meanwhile.
                found += [(at, at, at + len(form)) for form in tuple(forms) if raw.startswith(form, at)]
        return found

    def redact_mapping(self, values: Mapping[str, object]) -> dict[str, object]:
        """A copy fit to leave the process: secrets and the values of sensitive keys masked, sizes bounded.

        For log lines, span attributes, problem documents. Objects that are neither text, numbers nor
        collections are shown by `str` and masked like text.
        """
        return _Walk(self).mapping(values, 0)


class _Walk:
    """One pass over one structure; bounded however deep, wide or entangled it is."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._left = MAX_NODES

    def mapping(self, values: Mapping[Any, object], depth: int) -> dict[str, object]:
        items = islice(values.items(), MAX_ITEMS)
        return {self._masker.text(str(key)): self._field(str(key), value, depth) for key, value in items}

    def _field(self, key: str, value: object, depth: int) -> object:
        if not isinstance(value, int | float | None) and _SENSITIVE_KEY.search(key):
            return MASK
        return self._value(value, depth + 1)

    def _value(self, value: object, depth: int) -> object:
        self._left -= 1
        if value is None or isinstance(value, int | float):
            return value
        if self._left < 0:
            return "…"
        if isinstance(value, str):
            return self._masker.text(value)
        if isinstance(value, bytes | bytearray):
            return self._masker.text(bytes(value[: MAX_TEXT + _SLACK]).decode("utf-8", "replace"))
        if isinstance(value, Mapping | list | tuple | AbstractSet):
            if depth >= MAX_DEPTH:
                return "…"
            if isinstance(value, Mapping):
                return self.mapping(value, depth)
            return [self._value(inner, depth + 1) for inner in islice(value, MAX_ITEMS)]
        return self._masker.text(str(value))


def without_private_keys(text: str) -> str:
    """`text` without private keys in PEM, which have many lines; of one without an end the next 16 KiB go."""
    return _WHOLE_KEY.sub(MASK, text) if "PRIVATE KEY" in text else text


def _patterns(block: bytes) -> list[Found]:
    found: list[Found] = []
    for anchors, pattern in _PATTERNS:
        for anchor in anchors:
            if anchor in block:
                group = pattern.groups
                found += [(match.start(), match.start(group), match.end(group)) for match in pattern.finditer(block)]
                break
    return found


def masks(found: Iterable[Found]) -> list[Span]:
    """The parts to replace."""
    return merged((start, end) for _, start, end in found)


def merged(spans: Iterable[Span]) -> list[Span]:
    """Sorted, with what overlaps or touches made one."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(result[-1][1], end))
        elif end > start:
            result.append((start, end))
    return result


def replaced(block: bytes, spans: Sequence[Span]) -> bytes:
    """`block` with each of the merged `spans` as `***`."""
    parts: list[bytes] = []
    last = 0
    for start, end in spans:
        parts += [block[last:start], MASK.encode()]
        last = end
    return b"".join([*parts, block[last:]])
