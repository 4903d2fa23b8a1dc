"""Signing in at an OpenID provider, over HTTP: the way there and the way back.

The browser that comes back must be the one that went: it has a cookie of its own for that. Whatever goes wrong ends on
the page, with a reason in the address; a person gets to see no problem document.
"""

from __future__ import annotations

import logging

from aiohttp import web

from orchestrator.errors import GiveUpError, OrchestratorError
from orchestrator.identity.sign_in.provider import SignInError
from orchestrator.identity.sign_in.rules import Person
from orchestrator.server import schemas
from orchestrator.server.deps import ServerDeps
from orchestrator.server.entrance.body import read_query
from orchestrator.server.page.attempts import ATTEMPT_SECONDS, MAX_COOKIE, Attempts, cookie_of, too_many
from orchestrator.server.page.door import Door, SignInWay
from orchestrator.server.page.guard import check_host, plain
from orchestrator.server.page.live_shapes import CallbackQuery
from orchestrator.server.page.roles import Role, Visitor
from orchestrator.server.page.session_api import LINK_PATH, not_across_a_network

log = logging.getLogger("orchestrator.server.page")

REFUSED_PATH = "/#signin-refused="


class SignIn:
    """The handlers."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps
        self._attempts = Attempts()

    async def begin_sign_in(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        door, way = self._way(request)
        if not door.names.secure and plain(f"http://{request.headers.get('Host', '')}") != plain(door.url):
            # The provider sends people back to our URL, and the cookie goes to the host that gave it.
            return _to(f"{door.url}{request.path}")
        try:
            not_across_a_network(door, request)
            attempt, shown = self._attempts.begin(way.provider.config.name)
            response = _to(await way.provider.address(attempt))
        except OrchestratorError as error:
            return _refused(error)
        for name in too_many(door.sign_in_cookie, request.cookies):
            _forget(door, response, name)
        response.set_cookie(
            cookie_of(door.sign_in_cookie, attempt.state),
            shown,
            path="/",
            secure=door.names.secure,
            httponly=True,
            samesite="Lax",  # it must come with the way back, which another site begins
            max_age=ATTEMPT_SECONDS,
        )
        return response

    async def finish_sign_in(self, request: web.Request) -> web.Response:
        answer = read_query(request, CallbackQuery)
        door, way = self._way(request)
        cookie = cookie_of(door.sign_in_cookie, answer.state)
        try:
            not_across_a_network(door, request)
            shown = request.cookies.get(cookie, "")[:MAX_COOKIE]
            attempt = self._attempts.take(way.provider.config.name, answer.state, shown)
            visitor = _visitor(await way.provider.finish(attempt, answer.model_dump(exclude_none=True)))
        except OrchestratorError as error:
            response = _refused(error)
            _forget(door, response, cookie)
            return response
        # The page that has its seal, in the browser that went there, is whom this signs in.
        return _to(LINK_PATH + door.sessions.link(visitor, way.provider.config.name, shown))

    def _way(self, request: web.Request) -> tuple[Door, SignInWay]:
        door = self._deps.page
        way = door.ways.get(request.match_info["provider"]) if door is not None else None
        if door is None or way is None:
            raise GiveUpError("There is no such sign-in provider.", reason="not_found", fix="see page.providers")
        check_host(door.names, request.headers)
        return door, way


def _visitor(person: Person) -> Visitor:
    if not person.role:
        log.info("no role", extra={"issuer": person.issuer, "subject": person.subject})
        raise SignInError("Whoever signed in has no role here.", reason="sign_in_no_role")
    return Visitor(Role(person.role), person.name, person.issuer, person.subject)


def _refused(error: OrchestratorError) -> web.Response:
    log.warning("sign-in refused: %s", error, extra={"reason": error.reason})
    return _to(REFUSED_PATH + error.reason)


def _forget(door: Door, response: web.Response, cookie: str) -> None:
    response.del_cookie(cookie, path="/", secure=door.names.secure, httponly=True, samesite="Lax")


def _to(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address})
