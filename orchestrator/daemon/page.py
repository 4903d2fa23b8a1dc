"""The live page's door, by the settings: under which names, for whom, and for how long."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from orchestrator.server.page.door import Anonymous, Door
from orchestrator.server.page.guard import Names
from orchestrator.server.page.sessions import SessionLife, Sessions
from orchestrator.settings import Settings
from orchestrator.settings.page import is_loopback

_SCHEME_PORTS = {"http": 80, "https": 443}


def open_door(settings: Settings, url: str) -> Door | None:
    """None where no page is served. `url` is the daemon's public URL."""
    page = settings.page
    if not page.enabled:
        return None
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    hosts = frozenset({parts.netloc.lower(), *page.hosts})
    life = SessionLife(page.session.idle_seconds, page.session.absolute_seconds, page.session.link_seconds)
    port = parts.port or _SCHEME_PORTS[parts.scheme]
    return Door(
        Sessions(life, time.monotonic), Names(hosts, loopback=True, secure=secure), _anonymous(settings, url), port
    )


def _anonymous(settings: Settings, url: str) -> Anonymous:
    match settings.page.anonymous:
        case "always":
            return Anonymous(looks=True)
        case "never":
            return Anonymous()
        case "auto":
            here = is_loopback(settings.server.host) and is_loopback(urlsplit(url).hostname or "")
            return Anonymous(looks=here, reads_logs=here, local=True)
