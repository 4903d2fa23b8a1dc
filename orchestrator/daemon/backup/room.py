"""Whether a disk has room for a copy, with something to spare: others live on it too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_KEPT_FREE_BYTES: Final = 256 << 20
_KEPT_FREE_PART: Final = 20
"""So much of a disk, or this part of a small one, is never copied into."""


def has_room(folder: Path, size: int) -> bool:
    """For a file of so many bytes. Raises OSError."""
    disk = os.statvfs(folder)
    free = disk.f_bavail * disk.f_frsize - min(_KEPT_FREE_BYTES, disk.f_blocks * disk.f_frsize // _KEPT_FREE_PART)
    return size <= free and (not disk.f_files or disk.f_favail > disk.f_files // _KEPT_FREE_PART)
