"""Where the daemon keeps its state unless told otherwise. Alone in a module: the command line reads it without
the settings tree, whose import takes longer than most commands."""

from __future__ import annotations

import os
from pathlib import Path


def default_state_dir() -> Path:
    """`$XDG_STATE_HOME/orchestrator`, else `~/.local/state/orchestrator`."""
    base = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(base) / "orchestrator"
