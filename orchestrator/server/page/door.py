"""Lets requests without a bearer token in, if the page's ways allow it: a session's cookie, or nobody in particular."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.identity.sign_in.provider import SignInProvider
from orchestrator.model.job import Caller
from orchestrator.server.entrance.problems import ProblemError
from orchestrator.server.operation import Operation
from orchestrator.server.page.guard import (
    PAGE_HEADER,
    UNATTENDED_HEADER,
    Names,
    check_host,
    check_site,
    names_loopback,
)
from orchestrator.server.page.roles import VISITOR, Role, Visitor
from orchestrator.server.page.session_file import SessionFile
from orchestrator.server.page.sessions import Sessions

_MAX_COOKIE = 128


@dataclass(frozen=True, slots=True)
class SignInWay:
    """One provider, as the page offers it."""

    label: str
    provider: SignInProvider


@dataclass(frozen=True, slots=True)
class Anonymous:
    """What those may see who have not signed in; `local`: only on this machine, by connections of its own."""

    looks: bool = False
    reads_logs: bool = False
    local: bool = False


class Notes(Protocol):
    """Each is durable when it returns. TryAgainError: it cannot be now."""

    async def page_signed_in(self, way: str, role: str, caller: Caller) -> None: ...

    async def page_link_made(self, caller: Caller) -> None: ...


class Door:
    """`cookie` is the session cookie's name; by plain http the port is in it, as browsers keep cookies by host alone.
    `sign_in_cookie` is what the names of cookies for sign-ins under way begin with.
    `url` is the daemon's public one, to which providers send people back. `file` keeps sessions over a restart."""

    def __init__(
        self,
        sessions: Sessions,
        names: Names,
        anonymous: Anonymous,
        notes: Notes,
        port: int,
        ways: Sequence[SignInWay] = (),
        url: str = "",
        file: SessionFile | None = None,
    ) -> None:
        self.sessions = sessions
        self._file = file
        self.names = names
        self.notes = notes
        self.ways = {way.provider.config.name: way for way in ways}
        self.url = url
        self._anonymous = anonymous
        self.cookie = "__Host-orchestrator" if names.secure else f"orchestrator-{port}"
        self.sign_in_cookie = f"{self.cookie}-sign-in"

    def admit(self, request: web.Request, operation: Operation) -> Visitor:
        """Whom a request without a bearer token shows, if they may have what it asks for.

        Raises:
            GiveUpError: `token_missing`, `role_missing`, `cross_site_refused`, `host_unknown`.
        """
        check_host(self.names, request.headers)
        check_site(self.names, request.method, request.headers)
        visitor = self.visitor(request)
        if visitor is None:
            raise GiveUpError(
                "This needs a sign-in, or the header Authorization: Bearer <token>.",
                reason="token_missing",
                fix="sign in on the page; `orchestrator page` prints a link to it",
            )
        needed = operation.page
        if needed is None or not visitor.role.includes(needed) or (operation.private and not self.reads_logs(visitor)):
            raise ProblemError(
                "You may look, but not do this.",
                reason="role_missing",
                fix="sign in as somebody who may; page.providers says who that is",
            )
        return visitor

    def visitor(self, request: web.Request) -> Visitor | None:
        """Who a request's cookie and seal show, or nobody in particular where they may look."""
        value, seal = request.cookies.get(self.cookie, ""), request.headers.get(PAGE_HEADER, "")
        if value and max(len(value), len(seal)) <= _MAX_COOKIE:
            known = self.sessions.visitor(value, seal, used=UNATTENDED_HEADER not in request.headers)
            if known is not None:
                return known
        return Visitor(Role.VIEWER) if self._may_look(request) else None

    def reads_logs(self, visitor: Visitor) -> bool:
        return self._anonymous.reads_logs or not visitor.anonymous

    @property
    def behind(self) -> bool:
        """Whether a session that has ended may go on after a restart."""
        return self._file is not None and self._file.behind

    async def keep(self) -> None:
        """Have sessions go on over a restart as they are now.

        Raises:
            TryAgainError: `keys_unavailable`: they would as they were before.
        """
        if self._file is not None:
            await self._file.write(self.sessions.kept())

    async def close(self) -> None:
        with suppress(TryAgainError):
            await self.keep()  # when they were used last
        for way in self.ways.values():
            await way.provider.close()

    def _may_look(self, request: web.Request) -> bool:
        if not self._anonymous.looks:
            return False
        if not self._anonymous.local:
            return True
        # A proxy on this machine makes everybody local; one that says so is not taken for somebody here, nor is whoever
        # asks for another name than this machine's own.
        return names_loopback(request.headers.get("Host", "")) and not any(map(_of_a_proxy, request.headers))


def _of_a_proxy(header: str) -> bool:
    name = header.lower()
    return name in ("forwarded", "x-real-ip", "via") or name.startswith("x-forwarded-")


def may_stay(request: web.Request, door: Door | None) -> bool:
    """Whether an answer that is still open may go on: a session that ends, ends what it has open."""
    visitor = request.get(VISITOR)
    return visitor is None or door is None or visitor.anonymous or door.sessions.alive(visitor.session)
