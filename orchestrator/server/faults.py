"""What does not fit in a request, in words of the request: a regular expression is no explanation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from orchestrator.server import schemas

_LABEL: Final = "letters (A to Z), digits, spaces and ._:/@()+,=#-, at most 128, the first a letter or a digit"

_FORMS: Final[Mapping[str, str]] = {
    schemas.LABEL: _LABEL,
    schemas.LABEL_OR_EMPTY: _LABEL,
    schemas.POOL: "small letters (a to z), digits and hyphens, at most 63, the first and the last no hyphen",
    schemas.TICKET: "letters (A to Z), digits and ._/#-, at most 128, the first a letter or a digit",
    schemas.ARTIFACT: "sha256: and 64 hexadecimal digits in small letters",
    schemas.LINE: "one line, without control characters",
    schemas.SHORT_LINE: "one line of at most 200 characters, without control characters",
    schemas.JOB_ID_PATTERN: "a whole job id, such as `orchestrator jobs --json` shows",
}
"""What may stand in a text, by the pattern that says so."""


def wrong(item: Mapping[str, Any]) -> str:
    """What is wrong in one place, without the value that stands there."""
    if item["type"] == "extra_forbidden":
        return "there is no such key"
    if item["type"] == "string_pattern_mismatch":
        form = _FORMS.get(item.get("ctx", {}).get("pattern", ""))
        return f"may hold only {form}" if form else str(item["msg"])
    return str(item["msg"]).removeprefix("Value error, ")
