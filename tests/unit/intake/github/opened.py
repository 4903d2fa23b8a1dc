"""A client of a test server, whose waits move the server's clock instead of taking time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from orchestrator.identity.github_app import GitHubApp
from orchestrator.intake.github.connect import GitHub
from orchestrator.intake.github.connection import AppCredential, GitHubConnection, Timing, TokenCredential
from orchestrator.intake.github.urls import parse_github_url
from orchestrator.testing.github.model import Options
from orchestrator.testing.github.server import GitHubServer

SETS = "/_apis/runtime/runnerscalesets"
AGENTS = "/_apis/distributedtask/pools/0/agents"
REGISTER = "POST /actions/runner-registration"
INSTALLATION = "POST /app/installations/{id}/access_tokens"


@dataclass
class Opened:
    server: GitHubServer
    github: GitHub
    waits: list[float] = field(default_factory=list)

    def calls(self, endpoint: str) -> int:
        return self.server.counters[endpoint]


def stepping(server: GitHubServer, waits: list[float]) -> Timing:
    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await server.clock.step(seconds)

    return Timing(server.clock.now, server.clock.now, sleep, lambda: 0.5)


def app_credential(server: GitHubServer, folder: Path, **more) -> AppCredential:
    key = folder / "app.pem"
    key.write_text(server.app.private_key)
    key.chmod(0o600)
    app = GitHubApp(server.app.client_id, key, now=server.clock.now)
    return AppCredential(str(server.app.installation_id), app.sign, **more)


@asynccontextmanager
async def opened(
    folder: Path,
    scope: str = "acme",
    *,
    options: Options | None = None,
    personal: bool = False,
    credential: Callable[[GitHubServer], AppCredential] | None = None,
    **more,
) -> AsyncIterator[Opened]:
    async with GitHubServer(options) as server:
        server.add_repository("acme/shop", branches={"main": True, "feature/x": False})
        if personal:
            who = TokenCredential(lambda: server.personal_token)
        else:
            who = credential(server) if credential else app_credential(server, folder)
        waits: list[float] = []
        more.setdefault("timeout_seconds", 10)
        connection = GitHubConnection(parse_github_url(server.config_url(scope)), who, **more)
        github = GitHub(connection, stepping(server, waits))
        try:
            yield Opened(server, github, waits)
        finally:
            await github.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what the server does not announce."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


@asynccontextmanager
async def serving(handler, tls=None) -> AsyncIterator[str]:
    """A server of one handler for everything; yields its address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
