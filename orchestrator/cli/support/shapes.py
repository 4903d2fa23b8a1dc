"""What looks like a secret by the words beside it. For a bundle only: it masks more than a log could bear."""

from __future__ import annotations

import re
from typing import Final

from orchestrator.journal.redact import MASK

# What gives a value to a name, as code, headers, variables and addresses write it, however it is quoted.
_GIVES: Final = r"[\\\"']{0,4}\s{0,4}[:=]\s{0,4}[\\\"']{0,4}"
_VALUE: Final = r"[^\s\\\"'&;,<>(){}\[\]]{4,}"

_TO_THE_END: Final = re.compile(rf"(?i)((?:authorization|cookie){_GIVES})([^\r\n]{{4,}})")
"""Headers whose values have several parts."""
_ALWAYS: Final = re.compile(rf"(?i)((?:password|passwd|passphrase|pwd)[\w-]{{0,8}}{_GIVES})({_VALUE})")
_WHEN_RANDOM: Final = re.compile(
    rf"(?i)((?:secret|token|credential|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|signature"
    rf"|[?&]sig|[?&]code|[?&]key|x-amz-[a-z-]{{1,32}})[\w-]{{0,8}}{_GIVES})({_VALUE})"
)
"""Words that also stand before something harmless, such as *token: expired*."""
_HOOKS: Final = re.compile(
    r"(?i)(hooks\.slack\.com/|discord(?:app)?\.com/api/webhooks/|\.webhook\.office\.com/)([^\s\"'<>]{8,})"
)
"""Addresses whose path is the secret."""

_SERVICES: Final = re.compile(
    r"\b(?:xox[a-z]-[A-Za-z0-9-]{16,}|[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|AIza[A-Za-z0-9_-]{35}|npm_[A-Za-z0-9]{36}"
    r"|pypi-[A-Za-z0-9_-]{32,}|hf_[A-Za-z0-9]{30,}|dckr_pat_[A-Za-z0-9_-]{20,})"
)
"""Tokens of services that know them by how they begin: each of them would cost every line of every job's log."""

_KEY_ALWAYS: Final = re.compile(r"(?i)(?:authorization|cookie|password|passwd|passphrase)s?$")
_KEY_WHEN_RANDOM: Final = re.compile(r"(?i)(?:secret|token|credential|api[_-]?key|access[_-]?key|private[_-]?key)s?$")


def looks_random(value: str) -> bool:
    """Whether a value is no word of a language: it has letters and digits, or both cases inside it, and no spaces."""
    if len(value) < 8 or any(map(str.isspace, value)):
        return False
    letters, digits = any(map(str.isalpha, value)), any(map(str.isdigit, value))
    return digits if not letters else digits or (value[1:].lower() != value[1:] and value.upper() != value)


def masked_shapes(text: str) -> str:
    """One line without what is given to a name that tells of a secret."""
    text = _SERVICES.sub(MASK, _HOOKS.sub(rf"\1{MASK}", text))
    if ":" not in text and "=" not in text:
        return text
    for shape in (_TO_THE_END, _ALWAYS):
        text = shape.sub(rf"\1{MASK}", text)
    return _WHEN_RANDOM.sub(lambda found: found[1] + (MASK if looks_random(found[2]) else found[2]), text)


def is_secret_by_name(name: str, value: str) -> bool:
    """Whether a field's name says that its value is a secret."""
    return bool(value) and bool(_KEY_ALWAYS.search(name) or (_KEY_WHEN_RANDOM.search(name) and looks_random(value)))
