"""The ticket that a commit's message names by a trailer, as git finds trailers. Pure."""

from __future__ import annotations

import re
from typing import Final

_LINE: Final = re.compile(r"([A-Za-z][A-Za-z0-9-]{0,62})[ \t]*:[ \t]*(\S.*)")
_MAX_LINES: Final = 200


def trailer_of(message: str, name: str) -> str:
    """The value of this trailer in the message's last paragraph, whatever the case of its name.

    Empty where there is none, where two differ, and where the paragraph is the subject or has lines of other kinds.
    """
    paragraphs = re.split(r"\n[ \t]*\n", message.replace("\r\n", "\n").strip("\n"))
    if len(paragraphs) < 2:
        return ""
    lines = paragraphs[-1].strip("\n").split("\n")
    found = [_LINE.fullmatch(line.rstrip()) for line in lines[:_MAX_LINES]]
    if len(lines) > _MAX_LINES or not all(found):
        return ""
    values = {one[2] for one in found if one is not None and one[1].lower() == name.lower()}
    return values.pop() if len(values) == 1 else ""
