"""The audit log's public face: its newest signed checkpoint, and the key that checkpoints verify with."""

from __future__ import annotations

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.deps import AuditDocuments, ServerDeps
from orchestrator.server.entrance.body import read_query
from orchestrator.server.operation import TEXT


class Audit:
    """The handlers. Both documents are public: they say how long the log is, and nothing of what is in it."""

    def __init__(self, deps: ServerDeps) -> None:
        self._deps = deps

    async def checkpoint(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return _answer(self._documents().checkpoint())

    async def key(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return _answer(f"{self._documents().vkey()}\n")

    def _documents(self) -> AuditDocuments:
        if self._deps.audit is None:
            raise GiveUpError("This daemon keeps no audit log.", reason="not_found", fix="set audit.enabled")
        return self._deps.audit


def _answer(text: str) -> web.Response:
    return web.Response(text=text, content_type=TEXT, charset="utf-8", headers={"Cache-Control": "no-cache"})
