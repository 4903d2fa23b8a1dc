"""The live page's door, by the settings: under which names, for whom, and for how long."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from orchestrator.identity.sign_in.provider import ProviderConfig, SignInProvider
from orchestrator.identity.sign_in.rules import Rules, Table
from orchestrator.server.page.door import Anonymous, Door, Notes, SignInWay
from orchestrator.server.page.guard import Names
from orchestrator.server.page.session_file import SessionFile
from orchestrator.server.page.sessions import SessionLife, Sessions
from orchestrator.settings import Settings
from orchestrator.settings.page import PageProviderSettings, is_loopback

log = logging.getLogger("orchestrator.daemon.page")

SESSIONS = "page-sessions.json"
"""In the state folder."""
_SCHEME_PORTS = {"http": 80, "https": 443}


def open_door(settings: Settings, url: str, notes: Notes) -> Door | None:
    """None where no page is served. `url` is the daemon's public URL."""
    page = settings.page
    if not page.enabled:
        return None
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    hosts = frozenset({parts.netloc.lower(), *page.hosts})
    life = SessionLife(page.session.idle_seconds, page.session.absolute_seconds, page.session.link_seconds)
    port = parts.port or _SCHEME_PORTS[parts.scheme]
    ways = [SignInWay(one.label, _provider(one, url)) for one in page.providers]
    bound = {way: json.dumps([url, *words], sort_keys=True) for way, words in _what_gives_roles(page.providers)}
    sessions, names = Sessions(life, time.monotonic, bound=bound), Names(hosts, loopback=True, secure=secure)
    file = SessionFile(settings.state_dir / SESSIONS)
    if page.session.survive_restart:
        kept = file.read()
        if (found := sessions.restore(kept)) < len(kept):
            file.write_now(sessions.kept())  # what does not go on now must not do so after the next start either
        log.info("sessions of the page that go on: %d of %d", found, len(kept))
        return Door(sessions, names, _anonymous(settings, url), notes, port, ways, url, file)
    file.forget()
    return Door(sessions, names, _anonymous(settings, url), notes, port, ways, url)


def _what_gives_roles(providers: Sequence[PageProviderSettings]) -> Iterator[tuple[str, Sequence[object]]]:
    """Of each way to sign in; with another answer nobody's session of before goes on."""
    yield "link", ["operator"]
    for one in providers:
        yield one.name, [one.issuer, one.client_id, one.viewer, one.operator]


def _provider(given: PageProviderSettings, url: str) -> SignInProvider:
    rules = Rules(_tables(given.viewer), _tables(given.operator))
    config = ProviderConfig(
        given.name,
        given.issuer,
        given.client_id,
        f"{url}/signin/{given.name}/callback",
        rules,
        given.client_secret_file,
        given.scopes,
        given.algorithms,
    )
    return SignInProvider(config, now=time.time, monotonic=time.monotonic)


def _tables(given: Sequence[Mapping[str, str]]) -> Sequence[Table]:
    return [{claim: re.compile(pattern) for claim, pattern in table.items()} for table in given]


def _anonymous(settings: Settings, url: str) -> Anonymous:
    match settings.page.anonymous:
        case "always":
            return Anonymous(looks=True)
        case "never":
            return Anonymous()
        case "auto":
            here = is_loopback(settings.server.host) and is_loopback(urlsplit(url).hostname or "")
            return Anonymous(looks=here, reads_logs=here, local=True)
