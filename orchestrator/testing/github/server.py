"""The whole test server behind one object; the package's docstring shows its use."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Protocol, Self

from aiohttp import web

from orchestrator.testing.github.access import RateLimits
from orchestrator.testing.github.clock import GitHubClock
from orchestrator.testing.github.faults import Faults
from orchestrator.testing.github.front import FrontDoor
from orchestrator.testing.github.history import Person
from orchestrator.testing.github.model import JobPlan, Options, Repository, Run, ScaleSet
from orchestrator.testing.github.oidc import OidcRoutes
from orchestrator.testing.github.routes_auth import AuthRoutes
from orchestrator.testing.github.routes_broker import BrokerRoutes
from orchestrator.testing.github.routes_commits import CommitRoutes
from orchestrator.testing.github.routes_control import ControlRoutes
from orchestrator.testing.github.routes_hooks import HookRoutes
from orchestrator.testing.github.routes_queue import QUEUE_PATH, QueueRoutes
from orchestrator.testing.github.routes_rest import RestRoutes
from orchestrator.testing.github.routes_service import ServiceRoutes
from orchestrator.testing.github.state import GitHubState
from orchestrator.testing.github.tokens import ALL_PERMISSIONS, App, Grant, Kind, Tokens
from orchestrator.testing.github.webhooks import Webhooks
from orchestrator.testing.github.wire import Endpoint, Router

TENANT = "/tenant/123"
_MAX_BODY = 64 << 20
_TEN_YEARS = 10 * 365 * 86_400.0


class _Room(Protocol):
    def endpoints(self) -> list[Endpoint]: ...


class GitHubServer:
    """`runner_url` is how runner programs reach this server, when it is not `url`. `tls` serves https.

    `control` lets anybody who reaches the port drive the platform, see `routes_control.py`.
    """

    def __init__(
        self,
        options: Options | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        runner_url: str = "",
        clock: GitHubClock | None = None,
        tls: ssl.SSLContext | None = None,
        control: bool = False,
    ) -> None:
        self.host, self.port, self.url = host, port, ""
        self.options = options or Options()
        self.clock = clock or GitHubClock()
        self.faults = Faults()
        self.app = App()
        self.state = GitHubState(self.clock, self.options)
        self.tokens = Tokens(self.clock, self.app)
        self.limits = RateLimits(self.clock, self.options)
        self.personal_token = self.tokens.issue("ghp_", _personal(self.clock))
        self._runner_url = runner_url
        self._tls = tls
        self._door = FrontDoor(self.tokens, self.faults, self.limits, TENANT, self.state.notify)
        self._auth = AuthRoutes(self.state, self.tokens, self.faults, self.app)
        self._service = ServiceRoutes(self.state, self.tokens, self.faults)
        self._rest = RestRoutes(self.state, self.limits)
        self._commits = CommitRoutes(self.state)
        self.broker = BrokerRoutes(self.state)
        self.oidc = OidcRoutes(self.state)
        self.webhooks = Webhooks(self.state, self.app)
        hooks = HookRoutes(self.state, self.webhooks, self.app)
        queue = QueueRoutes(self.state, self.faults, self._service)
        rooms: tuple[_Room, ...] = (self._auth, self._service, queue, self._rest, self._commits, self.broker)
        rooms += (self.oidc, hooks)
        if control:
            rooms += (ControlRoutes(self.state, self.faults, lambda: self._door.counters),)
        self._door.router = Router(endpoint for room in rooms for endpoint in room.endpoints())
        self._runner: web.AppRunner | None = None

    # --- life ---

    async def start(self) -> None:
        """Listen; `url` is known then. After a `stop` it is the same port, and nothing was forgotten."""
        web_app = web.Application(client_max_size=_MAX_BODY)
        web_app.router.add_route("*", "/{path:.*}", self._door.handle)
        self._runner = web.AppRunner(web_app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port, ssl_context=self._tls, reuse_address=True, backlog=4096)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        self.url = f"{'https' if self._tls else 'http'}://{self.host}:{self.port}"
        runner_url = self._runner_url or self.url
        self._rest.url = self._commits.url = self._auth.url = self.oidc.url = self.webhooks.url = self.url
        self._rest.runner_url = self._service.runner_url = self.broker.runner_url = runner_url
        self._auth.service_url = f"{self.url}{TENANT}/"
        self._service.queue_url = self.url + QUEUE_PATH

    async def stop(self) -> None:
        """Close the port and every connection; what happened stays."""
        self._door.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def close(self) -> None:
        """Stop for good."""
        await self.webhooks.close()
        await self.stop()
        self.clock.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # --- what people do on the platform ---

    def config_url(self, scope: str) -> str:
        """What a client is configured with: `scope` is `org`, `owner/repository` or `enterprises/name`."""
        return f"{self.url}/{scope}"

    def add_repository(
        self, full_name: str, *, branches: Mapping[str, bool] | None = None, visibility: str = "private", **more: Any
    ) -> Repository:
        """See `GitHubState.add_repository`."""
        return self.state.add_repository(full_name, branches=branches, visibility=visibility, **more)

    def person(self, login: str, *, right: str = "", repository: str = "", kind: str = "User") -> Person:
        """An account, and what it may do in a repository: `admin`, `write`, `read`, `none`."""
        person = Person(self.state.add_owner(login, "User").id, login, kind)
        if repository:
            self.state.repositories[repository.lower()].history.rights[login.lower()] = right or "read"
        return person

    def rename_repository(self, full_name: str, name: str) -> None:
        """The repository has another name, and its old one points to it."""
        repository = self.state.repositories.pop(full_name.lower())
        repository.name = name
        self.state.repositories[repository.full_name.lower()] = self.state.moved[full_name.lower()] = repository

    def dispatch_workflow(self, repository: str, jobs: Iterable[JobPlan] = (JobPlan(),), **more: Any) -> Run:
        """Start a run; see `GitHubState.dispatch` for what else can be said about it."""
        return self.state.dispatch(repository, jobs, **more)

    async def until(self, condition: Callable[[], bool], seconds: float = 30) -> None:
        """Wait until the condition holds; it is looked at whenever something has changed. Raises TimeoutError."""
        await self.state.until(condition, seconds)

    # --- what goes wrong on the platform ---

    def lose_session(self, one: ScaleSet) -> None:
        """The service has forgotten the set's session: polls end with 400, a refresh with 404."""
        self.state.end_session(one)

    def expire_tokens(self, kind: Kind) -> int:
        """Tokens of this kind are not known from now on; returns how many there were."""
        return self.tokens.revoke(kind)

    def cut(self, part: str = "") -> int:
        """Cut open requests whose endpoint has `part` in it, such as waiting polls; returns how many."""
        return self._door.cut(part)

    # --- what was asked of it ---

    @property
    def counters(self) -> Counter[str]:
        """Calls by endpoint, `METHOD /template`."""
        return self._door.counters

    @property
    def statuses(self) -> Counter[tuple[str, int]]:
        """Answers by endpoint and status."""
        return self._door.statuses


def _personal(clock: GitHubClock) -> Grant:
    return Grant(Kind.PERSONAL, clock.now() + _TEN_YEARS, permissions=dict(ALL_PERMISSIONS))
