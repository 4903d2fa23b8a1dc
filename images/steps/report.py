"""Sizes of what was built, beside the benchmarks' figures."""

from __future__ import annotations

import json
from pathlib import Path

from steps.archive import Archive


def add(path: Path, name: str, archive: Archive) -> None:
    """Replaces the entry of one image and leaves the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    known[name] = {
        "reference": archive.name,
        "digest": archive.digest,
        "compressed": {"ours": round(archive.compressed_bytes / 1e6, 2), "unit": "MB"},
        "unpacked": {"ours": round(archive.unpacked_bytes / 1e6, 2), "unit": "MB"},
        "layers": archive.layers,
    }
    path.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
