"""Refuses a base image that is not named by digest. Runs first in the build, with the build argument BASE."""

from __future__ import annotations

import os
import re
import sys

PINNED = re.compile(r"[^@\s]+@sha256:[0-9a-f]{64}")


def problem(base: str) -> str:
    """Why `base` is refused, or an empty string. A tag may come to mean another image; a digest cannot."""
    if not base:
        return "the build argument BASE is missing"
    if not PINNED.fullmatch(base):
        return f"BASE must name an image by digest (name@sha256:...), and is {base!r}"
    return ""


if __name__ == "__main__":
    if found := problem(os.environ.get("BASE", "")):
        sys.exit(f"images: {found}\n  fix: see docs/how-to/build-images.md")
