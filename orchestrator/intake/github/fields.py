"""Reading JSON of a stranger: every field by name, with its type and bound; unknown ones are left alone. Pure."""

from __future__ import annotations

import calendar
import json
import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, Final, TypeGuard

from orchestrator.intake.github.errors import UnreadableAnswerError

MAX_TEXT: Final = 2048
MAX_SHOWN: Final = 256
MAX_ITEMS: Final = 20_000
_BOM: Final = b"\xef\xbb\xbf"
_TIME: Final = re.compile(r"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?([Zz]|[+-]\d\d:\d\d)")
_SURROGATE: Final = re.compile(r"[\ud800-\udfff]")
_LARGEST: Final = 1 << 63


def read_json(body: bytes | str) -> Any:
    """The JSON of a body, whether or not a byte-order mark comes before it.

    Raises:
        UnreadableAnswerError: it is no JSON.
    """
    try:
        return json.loads(body.removeprefix(_BOM) if isinstance(body, bytes) else body.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        raise UnreadableAnswerError("the answer is not JSON") from None


def read_object(body: bytes | str) -> Fields:
    """The JSON object of a body.

    Raises:
        UnreadableAnswerError: it is none.
    """
    return Fields(read_json(body), "")


class Fields:
    """One JSON object. A field that is absent or null has its default; one of another type is an error.

    Every method raises `UnreadableAnswerError`, which names the field and not its value.
    """

    __slots__ = ("_data", "_where")

    def __init__(self, data: Any, where: str) -> None:
        if not isinstance(data, dict):
            raise UnreadableAnswerError(f"the answer{where and f' ({where})'} is no JSON object")
        self._data: Mapping[str, Any] = data
        self._where = where

    def text(self, name: str, limit: int = MAX_TEXT) -> str:
        """A string of at most `limit` characters: longer ones are an error, for a cut name is another's name."""
        value = self._data.get(name)
        if value is None:
            return ""
        if not _is_text(value, limit):
            raise self._wrong(name, f"a string of at most {limit} characters")
        return value

    def shown(self, name: str) -> str:
        """A string for people, cut where it is too long; anything else than a string counts as empty."""
        value = self._data.get(name)
        return value[:MAX_SHOWN].encode("utf-8", "replace").decode() if isinstance(value, str) else ""

    def number(self, name: str) -> int:
        """A whole number, 0 when absent; strings of digits are taken as numbers."""
        value = self._data.get(name)
        if value is None or value == "":
            return 0
        if isinstance(value, str) and len(value) <= 19 and re.fullmatch(r"-?\d+", value, re.ASCII):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not -_LARGEST <= value < _LARGEST:
            raise self._wrong(name, "a whole number")
        return value

    def flag(self, name: str) -> bool:
        value = self._data.get(name)
        if value is None:
            return False
        if not isinstance(value, bool):
            raise self._wrong(name, "true or false")
        return value

    def time_ns(self, name: str) -> int | None:
        """RFC 3339 as Unix nanoseconds; None when absent, empty, or the year-one time that stands for *unset*."""
        value = self._data.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 33:
            return value * 1_000_000_000  # some REST objects tell seconds
        nanoseconds = time_ns(value) if isinstance(value, str) else None
        if nanoseconds is None:
            raise self._wrong(name, "an RFC 3339 time")
        return nanoseconds if nanoseconds > 0 else None

    def texts(self, name: str) -> tuple[str, ...]:
        """Strings, or the `name` of each object, as labels come in both forms."""
        found = []
        for item in self.items(name):
            value = item.get("name") if isinstance(item, dict) else item
            if not _is_text(value, MAX_TEXT):
                raise self._wrong(name, "a list of strings")
            found.append(value)
        return tuple(found)

    def items(self, name: str) -> list[Any]:
        value = self._data.get(name)
        if value is None:
            return []
        if not isinstance(value, list) or len(value) > MAX_ITEMS:
            raise self._wrong(name, f"a list of at most {MAX_ITEMS}")
        return value

    def objects(self, name: str) -> list[Fields]:
        return [Fields(item, self._path(name)) for item in self.items(name)]

    def object(self, name: str) -> Fields | None:
        value = self._data.get(name)
        return None if value is None else Fields(value, self._path(name))

    def table(self, name: str) -> dict[str, str]:
        """An object whose members are all strings, by their name; empty when absent."""
        value = self._data.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(_is_text(text, MAX_TEXT) for one in value.items() for text in one):
            raise self._wrong(name, "a table of strings")
        return dict(value)

    def each_object(self) -> Iterator[tuple[str, Fields]]:
        """Every member that is an object, by its name; there may be few of them."""
        for name, value in list(self._data.items())[:MAX_ITEMS]:
            if isinstance(value, dict):
                yield name[:MAX_SHOWN], Fields(value, self._path(name[:MAX_SHOWN]))

    def __contains__(self, name: str) -> bool:
        return self._data.get(name) is not None

    def need(self, name: str, value: Any) -> None:
        """Refuse an object without something it cannot be used without: `value` is what was read of `name`."""
        if not value:
            raise self._wrong(name, "there")

    def _path(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name

    def _wrong(self, name: str, wanted: str) -> UnreadableAnswerError:
        return UnreadableAnswerError(f"the answer's {self._path(name)} is not {wanted}")


def _is_text(value: object, limit: int) -> TypeGuard[str]:
    """JSON can carry halves of surrogate pairs, which no later stage could encode."""
    if not isinstance(value, str) or len(value) > limit:
        return False
    return value.isascii() or _SURROGATE.search(value) is None


def time_ns(text: str) -> int | None:
    """RFC 3339 as Unix nanoseconds, exact; negative before 1970; None when it is no such time."""
    match = _TIME.fullmatch(text)
    if match is None:
        return None
    try:
        whole = datetime.fromisoformat(match[1].upper())
    except ValueError:
        return None
    seconds = calendar.timegm(whole.timetuple())
    if (zone := match[3]) not in ("Z", "z"):
        offset = int(zone[1:3]) * 3600 + int(zone[4:6]) * 60
        seconds -= offset if zone[0] == "+" else -offset
    return seconds * 1_000_000_000 + int((match[2] or "0").ljust(9, "0")[:9])
