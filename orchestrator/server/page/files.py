"""The page's own files, as they lie in the package: read once, served from memory under a policy that lets nothing
else run."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from orchestrator.errors import GiveUpError
from orchestrator.server import schemas
from orchestrator.server.deps import ServerDeps
from orchestrator.server.entrance.body import read_query

FOLDER = Path(__file__).parent / "static"
INDEX = "index.html"

CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
"""Only our own files, and no markup made from text (`require-trusted-types-for`): job names are anybody's words."""

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class StaticFile:
    body: bytes
    media_type: str
    etag: str


def load(folder: Path = FOLDER) -> Mapping[str, StaticFile]:
    """Every file of the page by its name; files of no known type are left out."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in _TYPES and path.is_file():
            body = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()[:16]).decode().rstrip("=")
            found[path.name] = StaticFile(body, _TYPES[path.suffix], f'"{digest}"')
    return found


class Files:
    """The handlers. What they serve is the same for everybody, and tells nothing of any job."""

    def __init__(self, deps: ServerDeps) -> None:
        self._files = load() if deps.page is not None else {}

    async def page_index(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return self._answer(request, INDEX)

    async def page_file(self, request: web.Request) -> web.Response:
        read_query(request, schemas.NoQuery)
        return self._answer(request, request.match_info["file"])

    def _answer(self, request: web.Request, name: str) -> web.Response:
        file = self._files.get(name)
        if file is None:
            raise GiveUpError("There is no such file of the page.", reason="not_found")
        headers = {
            "Content-Security-Policy": CONTENT_SECURITY_POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-cache",
            "ETag": file.etag,
        }
        if file.etag in request.headers.get("If-None-Match", "")[:1024]:
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers=headers | {"Content-Type": file.media_type})
