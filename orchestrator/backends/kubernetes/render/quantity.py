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
