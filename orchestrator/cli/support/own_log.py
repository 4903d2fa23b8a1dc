"""What the running daemon said on standard error, where that is a file; else the words for where to look."""

from __future__ import annotations

import json
import os
import stat
from itertools import islice
from pathlib import Path
from typing import Final

from orchestrator.errors import GiveUpError

MAX_LOG_BYTES: Final = 2 << 20
"""Of a longer one the end is taken."""
_MAX_PRESENCE_BYTES: Final = 64 << 10
_MAX_DESCRIPTORS: Final = 10_000


def daemon_log(state: Path, processes: Path = Path("/proc")) -> str:
    """The newest lines of the log of the daemon that runs on this state folder.

    Raises:
        GiveUpError: reason `log_elsewhere`: no daemon runs here, or its standard error is no file; the message says
            where it goes.
        OSError: it cannot be read.
    """
    process = _daemon(state, processes)
    try:
        descriptor = os.open(process / "fd" / "2", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError as error:  # a socket cannot be opened by its name
        raise _elsewhere(process, error.strerror or "") from None
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _elsewhere(process, "no file")
        file.seek(max(0, found.st_size - MAX_LOG_BYTES))
        text = file.read(MAX_LOG_BYTES).decode("utf-8", "replace")
    return text if found.st_size <= MAX_LOG_BYTES else text.partition("\n")[2]


def _daemon(state: Path, processes: Path) -> Path:
    """The folder of its process. A killed daemon leaves its number behind, which another program may have by now: only
    one that has the journal open is ours."""
    try:
        with (state / "daemon.json").open("rb") as file:
            pid = json.loads(file.read(_MAX_PRESENCE_BYTES))["pid"]
        journal = (state / "journal.db").stat()
        if isinstance(pid, int) and pid > 0:
            process = processes / str(pid)
            with os.scandir(process / "fd") as entries:
                if any(_is(Path(entry.path), journal) for entry in islice(entries, _MAX_DESCRIPTORS)):
                    return process
    except (OSError, ValueError, KeyError, TypeError):
        pass
    raise GiveUpError(
        "no daemon runs on this state folder; what it said is where its standard error was kept",
        reason="log_elsewhere",
    )


def _is(path: Path, file: os.stat_result) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (file.st_dev, file.st_ino)


def _elsewhere(process: Path, why: str) -> GiveUpError:
    try:
        target = str((process / "fd" / "2").readlink()).partition(":")[0]
    except OSError:
        target = why
    return GiveUpError(
        f"the daemon's standard error goes to {target}, which keeps nothing to read: add what keeps it, such as "
        f"`journalctl _PID={process.name}` or `kubectl logs`, after a look",
        reason="log_elsewhere",
    )
