"""Registered secrets that are allowed and weaker than they could be: each named with what it gives away."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from orchestrator.model.pool import TrustTier
from orchestrator.settings import Settings

_HOOKS_OF_OTHERS = stat.S_IWGRP | stat.S_IWOTH


def secret_warnings(settings: Settings) -> Iterator[str]:
    """One line for each, beginning with the setting's path."""
    strict = {pool.name for pool in settings.pools if pool.trust_tier is TrustTier.PROTECTED}
    for number, secret in enumerate(settings.secrets):
        where = f"secrets.{number}"
        if secret.rotate is None:
            yield f"{where}.rotate: nobody but people replace {secret.name}; it grows old unseen until it is overdue"
        if secret.remove is None:
            yield f"{where}.remove: when {secret.name} is retired it still opens what it opened, until somebody ends it"
        if strict & set(secret.pools):
            yield f"{where}.pools: {secret.name} in a protected pool, which the shipped policy refuses"
        if secret.file is not None and _mode(secret.file) & 0o070:
            yield f"{where}.file: {secret.file} can be read by its group; give it mode 0400"
        for name, hook in (("rotate", secret.rotate), ("remove", secret.remove)):
            if hook is not None and _mode(Path(hook.command[0])) & _HOOKS_OF_OTHERS:
                yield f"{where}.{name}.command: others can write {hook.command[0]}, and so would have every value"


def _mode(path: Path) -> int:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0
