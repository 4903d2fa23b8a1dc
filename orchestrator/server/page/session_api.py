"""Signing in and out of the page over HTTP. Every sign-in ends here: with a code, once, for the page that shows it."""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from aiohttp import web

from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.server import schemas
from orchestrator.server.deps import CALLER, ServerDeps
from orchestrator.server.dispatch import json_response
from orchestrator.server.entrance.body import read_model, read_query
from orchestrator.server.page.attempts import kept
from orchestrator.server.page.door import Door
from orchestrator.server.page.guard import PAGE_HEADER, check_host, check_site, cross_site_refused, names_loopback
from orchestrator.server.page.live_shapes import CodeRequest
from orchestrator.server.page.roles import Role, Visitor
from orchestrator.server.page.sessions import SEAL, Link, local_operator

log = logging.getLogger("orchestrator.server.page")

_MAX_BYTES = 1024
LINK_PATH = "/#code="
"""Where the page finds a link's code: in the fragment, which no browser sends to anybody."""


class SessionApi:
    """The handlers."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    @property
    def _door(self) -> Door:
        if self._deps.page is None:
            raise GiveUpError("This daemon serves no page.", reason="not_found", fix="set page.enabled")
        return self._deps.page

    async def read_session(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        door = self._door
        check_host(door.names, request.headers)
        check_site(door.names, request.method, request.headers)
        return json_response(session_view(door, door.visitor(request)))

    async def make_link(self, request: web.Request) -> web.Response:
        """For operators by their token: the caller can do all that a session can."""
        read_query(request, schemas.NoQuery)
        caller = request[CALLER]
        if caller.issuer != self._deps.local_issuer:
            raise GiveUpError(
                "Only operators may make sign-in links.",
                reason="operators_only",
                fix="use a caller token of the daemon itself, as its command line does",
            )
        sessions = self._door.sessions
        await self._door.notes.page_link_made(caller)
        code = sessions.link(local_operator(caller.issuer, caller.subject))
        return json_response({"path": LINK_PATH + code, "expires_in": int(sessions.life.link)}, status=201)

    async def redeem_code(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        door = self._door
        check_host(door.names, request.headers)
        check_site(door.names, request.method, request.headers)
        not_across_a_network(door, request)
        seconds = self._deps.limits.body_timeout_seconds
        given = await read_model(request, CodeRequest, limit_bytes=_MAX_BYTES, timeout_seconds=seconds)
        seal = request.headers.get(PAGE_HEADER, "")
        if not SEAL.fullmatch(seal):
            raise cross_site_refused()
        attempts = kept(door.sign_in_cookie, request.cookies)
        link = door.sessions.redeem(given.code, attempts.values())
        if link is None:
            raise GiveUpError(
                "This sign-in was used already, is too old, or was begun in another browser.",
                reason="sign_in_link_invalid",
                fix="sign in again, or make another link: orchestrator page",
            )
        value = await _begin(door, request, link, seal)
        response = json_response(session_view(door, door.sessions.visitor(value, seal)))
        _set_cookie(door, response, value)
        for name in (name for name, shown in attempts.items() if link.is_of(shown)):
            response.del_cookie(name, path="/", secure=door.names.secure, httponly=True, samesite="Lax")
        return response

    async def end_session(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        door = self._door
        check_host(door.names, request.headers)
        check_site(door.names, request.method, request.headers)
        left = door.sessions.end(request.cookies.get(door.cookie, ""))
        if left is not None:
            log.info("signed out", extra={"issuer": left.issuer, "subject": left.subject})
        if left is not None or door.behind:  # who could not sign out comes again, and has no session any more
            await door.keep()
        response = json_response(session_view(door, door.visitor(request)))
        response.del_cookie(door.cookie, path="/", secure=door.names.secure, httponly=True, samesite="Strict")
        return response


def not_across_a_network(door: Door, request: web.Request) -> None:
    """Raises GiveUpError `sign_in_insecure`: the cookie would cross a network in the clear."""
    if not door.names.secure and not names_loopback(request.headers.get("Host", "")):
        raise GiveUpError(
            "Nobody signs in over plain http from another machine.",
            reason="sign_in_insecure",
            fix="put TLS in front and say so with server.public_url, or use a tunnel to the loopback address",
        )


async def _begin(door: Door, request: web.Request, link: Link, seal: str) -> str:
    """A session of its own, never one that the browser had before, which ends; the cookie's value.

    Raises:
        TryAgainError: it cannot be recorded who it is.
    """
    visitor = link.visitor
    await door.notes.page_signed_in(link.way, visitor.role.value, visitor.caller)
    door.sessions.end(request.cookies.get(door.cookie, ""))
    log.info("signed in", extra={"issuer": visitor.issuer, "subject": visitor.subject, "role": visitor.role.value})
    value = door.sessions.begin(visitor, seal, link.way)
    with suppress(TryAgainError):  # it is said in the log, and ends with the daemon
        await door.keep()
    return value


def _set_cookie(door: Door, response: web.StreamResponse, value: str) -> None:
    """Sent to us only, never to scripts, and never with a request that another site began."""
    response.set_cookie(
        door.cookie,
        value,
        path="/",
        secure=door.names.secure,
        httponly=True,
        samesite="Strict",
        max_age=int(door.sessions.life.absolute),
    )


def session_view(door: Door, visitor: Visitor | None) -> dict[str, Any]:
    """Who is looking, what they may do and how they may sign in; see `page.shapes.SessionView`."""
    return {
        "signed_in": visitor is not None and not visitor.anonymous,
        "name": visitor.name if visitor else "",
        "roles": [role.value for role in visitor.role.implied] if visitor else [],
        "may_read": visitor is not None,
        "may_read_logs": visitor is not None and door.reads_logs(visitor),
        "may_operate": visitor is not None and visitor.role.includes(Role.OPERATOR),
        "anonymous": visitor is not None and visitor.anonymous,
        "ends_in_seconds": int(door.sessions.left_seconds(visitor.session)) if visitor else 0,
        "sign_in": [{"id": name, "label": way.label, "url": f"/signin/{name}"} for name, way in door.ways.items()],
    }
