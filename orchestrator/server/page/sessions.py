"""Who is signed in: sessions, known by a random cookie and the seal of the page that signed in. Only digests of both
are kept.

Browsers keep cookies by host alone: every server on another port of this machine is sent ours by a browser that visits
it. The seal is a secret that the page makes and keeps where only its own origin, port included, can read it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from orchestrator.server.page.roles import Role, Visitor
from orchestrator.server.page.session_file import KeptSession

MAX_SESSIONS = 2000
"""Sessions at once; the one unused for longest goes first. With so many a new sign-in is all that is lost."""
MAX_OF_ONE = 50
"""Of one person, so that nobody ends everybody else's."""
_CLOCK_SECONDS = 300
"""By so much the machine's clock may have been set back since a session was kept; one of later than that is none."""
MAX_LINKS = 1000
"""Sign-ins that wait for the page; each is of somebody who has a role."""
SEAL = re.compile(r"[A-Za-z0-9_-]{43}")
"""What a seal looks like: 32 random bytes in base64url."""


@dataclass(frozen=True, slots=True)
class SessionLife:
    """Seconds."""

    idle: float
    absolute: float
    link: float


@dataclass(slots=True)
class _Session:
    visitor: Visitor
    seal: str
    way: str
    began: float
    used: float


@dataclass(frozen=True, slots=True)
class Link:
    """A sign-in that waits for its page: whose, in which `way`, and for which `browser` alone: the digest of what that
    must show, empty for any."""

    visitor: Visitor
    way: str
    browser: str
    until: float

    def is_of(self, shown: str) -> bool:
        """Whether this is what the browser must show."""
        return hmac.compare_digest(self.browser, _digest(shown))


class Sessions:
    """`monotonic` gives seconds that never run backwards, `wall` Unix seconds. `bound` has what gives people their role
    in each way of signing in: a session goes on over a restart only where that is still the same."""

    def __init__(
        self,
        life: SessionLife,
        monotonic: Callable[[], float],
        wall: Callable[[], float] = time.time,
        bound: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._life = life
        self._monotonic = monotonic
        self._wall = wall
        self._bound = {way: _digest(words) for way, words in bound.items()}
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._links: OrderedDict[str, Link] = OrderedDict()

    @property
    def life(self) -> SessionLife:
        return self._life

    def kept(self) -> list[KeptSession]:
        """What goes on over a restart."""
        now, wall = self._monotonic(), self._wall()
        return [
            KeptSession(
                cookie=name,
                seal=one.seal,
                role=one.visitor.role,
                name=one.visitor.name,
                issuer=one.visitor.issuer,
                subject=one.visitor.subject,
                way=one.way,
                bound=self._bound[one.way],
                began=wall - (now - one.began),
                used=wall - (now - one.used),
            )
            for name, one in self._sessions.items()
            if one.way in self._bound
        ]

    def restore(self, kept: Sequence[KeptSession]) -> int:
        """Take in what was kept before a restart, as far as it still holds; how many that are."""
        now, wall = self._monotonic(), self._wall()
        for one in sorted(kept, key=lambda one: one.used)[-MAX_SESSIONS:]:
            age, unused = wall - one.began, wall - one.used
            holds = one.bound == self._bound.get(one.way) and age < self._life.absolute and unused < self._life.idle
            if holds and min(age, unused) > -_CLOCK_SECONDS:
                visitor = Visitor(one.role, one.name, one.issuer, one.subject, one.cookie)
                self._sessions[one.cookie] = _Session(
                    visitor, one.seal, one.way, now - max(0, age), now - max(0, unused)
                )
        return len(self._sessions)

    def begin(self, visitor: Visitor, seal: str, way: str = "link") -> str:
        """Sign somebody in on the page with this seal; returns the cookie's value, which is nowhere else."""
        value = secrets.token_urlsafe(32)
        name = _digest(value)
        now = self._monotonic()
        self._sessions[name] = _Session(replace(visitor, session=name), _digest(seal), way, now, now)
        own = [one for one, session in self._sessions.items() if session.visitor.caller == visitor.caller]
        for one in own[:-MAX_OF_ONE]:
            del self._sessions[one]
        while len(self._sessions) > MAX_SESSIONS:
            self._sessions.popitem(last=False)
        return value

    def visitor(self, value: str, seal: str, *, used: bool = True) -> Visitor | None:
        """Who has this cookie and seal; counts as use unless nobody has `used` the page. None when the session is over,
        never was, or is another's."""
        name = _digest(value)
        if not self.alive(name):
            return None
        session = self._sessions[name]
        if not hmac.compare_digest(session.seal, _digest(seal)):
            return None
        if used:
            session.used = self._monotonic()
            self._sessions.move_to_end(name)
        return session.visitor

    def alive(self, name: str) -> bool:
        """Whether the session that a visitor has still goes on; no use. One that is over is forgotten."""
        session = self._sessions.get(name)
        if session is None:
            return False
        now = self._monotonic()
        if now - session.began < self._life.absolute and now - session.used < self._life.idle:
            return True
        del self._sessions[name]
        return False

    def left_seconds(self, name: str) -> float:
        """Until the session ends in any case; 0 for one that is over."""
        session = self._sessions.get(name)
        return max(0.0, session.began + self._life.absolute - self._monotonic()) if session else 0.0

    def end(self, value: str) -> Visitor | None:
        """Sign out; who it was, if anybody."""
        session = self._sessions.pop(_digest(value), None)
        return session.visitor if session else None

    def link(self, visitor: Visitor, way: str = "link", browser: str = "") -> str:
        """A code that signs this visitor in once, and soon; only where the browser shows the same, if that is given."""
        code, until = secrets.token_urlsafe(32), self._monotonic() + self._life.link
        self._links[_digest(code)] = Link(visitor, way, _digest(browser) if browser else "", until)
        while len(self._links) > MAX_LINKS:
            self._links.popitem(last=False)
        return code

    def redeem(self, code: str, shown: Iterable[str]) -> Link | None:
        """Whom the code signs in, where a browser has `shown` this; None when it is none, was used, is too old, or
        another browser's."""
        link = self._links.pop(_digest(code), None)
        if link is None or self._monotonic() >= link.until:
            return None
        return link if not link.browser or any(link.is_of(one) for one in shown) else None


def local_operator(issuer: str, subject: str) -> Visitor:
    """Whoever can read the daemon's state folder, by the link that the command line made for them."""
    return Visitor(Role.OPERATOR, "local operator", issuer, subject)


def _digest(value: str) -> str:
    """What is looked up takes no time that tells anything of the value."""
    return hashlib.sha256(value.encode(errors="replace")).hexdigest()
