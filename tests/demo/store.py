"""A store of artifacts as any HTTP server with PUT would be one. Nobody trusts it: all is asked for by digest."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web


@asynccontextmanager
async def artifact_store(folder: Path) -> AsyncIterator[int]:
    """Files by name below `folder`; the port on loopback."""
    folder.mkdir()

    async def put(request: web.Request) -> web.Response:
        (folder / request.match_info["name"]).write_bytes(await request.read())
        return web.Response(status=201)

    async def get(request: web.Request) -> web.StreamResponse:
        path = folder / request.match_info["name"]
        if not path.is_file():
            raise web.HTTPNotFound
        return web.FileResponse(path)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_put("/{name:[0-9a-f]{64}(?:\\.bom)?}", put)
    app.router.add_get("/{name:[0-9a-f]{64}(?:\\.bom)?}", get)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
