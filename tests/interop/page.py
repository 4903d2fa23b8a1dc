"""docs/how-to/use-clouds.md, whose code the tests run."""

from __future__ import annotations

from typing import Any

import yaml
from interop import ROOT

PAGE = (ROOT / "docs/how-to/use-clouds.md").read_text("utf-8")


def blocks(language: str, begin: str, end: str) -> list[str]:
    """Code of the page between two headings."""
    part = PAGE.partition(f"\n## {begin}\n")[2].partition(f"\n## {end}\n")[0]
    return [piece.partition("\n```")[0] for piece in part.split(f"```{language}\n")[1:]]


def trust_map() -> dict[str, Any]:
    (text,) = blocks("yaml", "1. Grant it", "2. Tell the cloud")
    return dict(yaml.safe_load(text))
