"""The chain of credentials: installation token, registration token, the Actions service's admin token."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from orchestrator.testing.github.access import grant_for_installation, scope_of
from orchestrator.testing.github.clock import rest_time
from orchestrator.testing.github.documents import repository_document
from orchestrator.testing.github.faults import Faults
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import App, Grant, Kind, Tokens
from orchestrator.testing.github.wire import ApiError, Call, Endpoint, Plane, Reply

REST_KINDS = (Kind.INSTALLATION, Kind.PERSONAL)
RUNNER_SCOPES = ("/orgs/{org}", "/repos/{owner}/{repo}", "/enterprises/{enterprise}")


class AuthRoutes:
    """`service_url` is handed out as the address of the Actions service; `url` begins the addresses in documents."""

    def __init__(self, state: GitHubState, tokens: Tokens, faults: Faults, app: App) -> None:
        self._state = state
        self._tokens = tokens
        self._faults = faults
        self._app = app
        self.service_url = self.url = ""

    def endpoints(self) -> list[Endpoint]:
        rest, bucket = Plane.REST, "actions_runner_registration"
        path = "/app/installations/{id}/access_tokens"
        table = [
            Endpoint("POST", path, self._installation_token, rest, (Kind.APP,)),
            Endpoint("GET", "/app", self._who, rest, (Kind.APP,)),
            Endpoint("DELETE", "/installation/token", self._end, rest, (Kind.INSTALLATION,)),
            Endpoint("GET", "/installation/repositories", self._repositories, rest, (Kind.INSTALLATION,)),
            Endpoint("POST", "/actions/runner-registration", self._register, rest, (Kind.REGISTRATION,), bucket=bucket),
        ]
        for scope in RUNNER_SCOPES:
            path = scope + "/actions/runners/registration-token"
            table.append(Endpoint("POST", path, self._registration_token, rest, REST_KINDS, bucket=bucket))
        return table

    async def _who(self, call: Call) -> Reply:
        app = self._app
        return Reply(200, {"id": app.app_id, "client_id": app.client_id, "permissions": app.permissions})

    async def _installation_token(self, call: Call) -> Reply:
        if call.number("id") != self._app.installation_id:
            raise ApiError(404, "Not Found")
        wanted: Any = call.json() if call.body else {}
        grant = grant_for_installation(self._state, self._app.permissions, wanted, self._state.clock.now())
        token = self._tokens.issue("ghs_", grant)
        answer: dict[str, Any] = {"token": token, "expires_at": rest_time(grant.expires_at)}
        answer["permissions"] = dict(grant.permissions)
        answer["repository_selection"] = "all" if grant.repositories is None else "selected"
        if grant.repositories is not None:
            answer["repositories"] = self._documents(grant)
        return Reply(201, answer)

    async def _end(self, call: Call) -> Reply:
        """The token that the call came with; a second call with it is 401."""
        self._tokens.end(call.request.headers["Authorization"].partition(" ")[2])
        return Reply(204)

    async def _repositories(self, call: Call) -> Reply:
        assert call.grant is not None, "the endpoint wants a token"
        found = self._documents(call.grant)
        return Reply(200, {"total_count": len(found), "repositories": found})

    def _documents(self, grant: Grant) -> list[dict[str, Any]]:
        """The repositories that a token reaches, by id."""
        named = self._state.repositories.items()
        seen = [one for name, one in named if grant.repositories is None or name in grant.repositories]
        return [repository_document(one, self.url) for one in sorted(seen, key=lambda one: one.id)]

    async def _registration_token(self, call: Call) -> Reply:
        expires = self._state.clock.now() + self._state.options.registration_token
        grant = Grant(Kind.REGISTRATION, expires, scope_of(call, self._state, "write"))
        return Reply(201, {"token": self._tokens.issue("A", grant), "expires_at": rest_time(expires)})

    async def _register(self, call: Call) -> Reply:
        if self._faults.unpropagated > 0:
            self._faults.unpropagated -= 1
            raise ApiError(403 if self._faults.unpropagated % 2 else 401, "The token is not known yet.")
        wanted = call.json()
        grant = call.grant
        assert grant is not None
        if not isinstance(wanted, dict) or wanted.get("runner_event") != "register":
            raise ApiError(422, "runner_event must be register")
        if urlsplit(str(wanted.get("url"))).path.strip("/").lower() != grant.scope.lower():
            raise ApiError(404, "Not Found")
        life = self._state.clock.now() + self._state.options.admin_token
        return Reply(
            201, {"url": self.service_url, "token": self._tokens.issue_jwt(Grant(Kind.ADMIN, life, grant.scope))}
        )
