"""Where the public API listens. A port taken by chance is kept over restarts, for it is part of who we are.

Issuer, builder of evidence and the scope of the local operator's idempotency keys are made from our URL. Had it
another port after a restart, a retried `submit` would be a second job and earlier provenance nobody's.
"""

from __future__ import annotations

import logging
import socket
from pathlib import Path

from orchestrator.errors import ConfigurationError
from orchestrator.private_file import replace_private_file
from orchestrator.server.app import bind_listener
from orchestrator.settings import Settings

_log = logging.getLogger("orchestrator")

_FILE = "port"


def listen(settings: Settings) -> socket.socket:
    """The configured address; where any port will do, the last one if it is still free.

    Raises:
        ConfigurationError: reason `address_in_use`.
    """
    host, port = settings.server.host, settings.server.port
    last = _last_port(settings.state_dir) if port == 0 else 0
    if last:
        try:
            return bind_listener(host, last)
        except ConfigurationError:
            _log.warning("port %d of the last start is taken; with another one our URL changes", last)
    return bind_listener(host, port)


def keep_port(state_dir: Path, port: int) -> None:
    """Remember the port for the next start. Call it once the state folder is ours alone; a full disk is no reason
    not to start."""
    try:
        replace_private_file(state_dir / _FILE, b"%d\n" % port)
    except OSError as error:
        _log.warning("the port cannot be kept for the next start: %s", error.strerror)


def _last_port(state_dir: Path) -> int:
    try:
        text = (state_dir / _FILE).read_bytes()[:16].strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() and 0 < int(text) < 65536 else 0
