"""Arithmetic on Kubernetes quantities (`500m`, `1.5Gi`), as far as a quota needs it. Pure."""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?)(m|k|Ki|M|Mi|G|Gi|T|Ti)?")


def times(quantity: str, factor: int) -> str:
    """`quantity` so many times, with the same suffix. Raises ValueError for text that is no quantity."""
    match = _QUANTITY.fullmatch(quantity)
    if match is None:
        raise ValueError(f"{quantity!r} is no quantity")
    number, suffix = match.groups()
    total = (Decimal(number) * factor).normalize()
    return f"{total:f}{suffix or ''}"


_POWERS = {suffix: Decimal(1000) ** power for power, suffix in enumerate(("", "k", "M", "G", "T", "P", "E"))} | {
    f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate(("", "K", "M", "G", "T", "P", "E")) if suffix
}
_POWERS |= {"m": Decimal("1e-3"), "u": Decimal("1e-6"), "n": Decimal("1e-9")}
_ANY = re.compile(r"([0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]{1,2})?)([numkKMGTPE]i?|)")


def value(quantity: str | int) -> Decimal | None:
    """The number that a quantity stands for, in any form the API server writes; None for what is none."""
    match = _ANY.fullmatch(str(quantity))
    if match is None or match[2] not in _POWERS:
        return None
    return Decimal(match[1]) * _POWERS[match[2]]
