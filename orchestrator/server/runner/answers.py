"""The bodies of the runner API's answers."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web


def json_answer(document: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


def oauth_error(status: int, code: str, description: str) -> web.Response:
    """RFC 6749, section 5.2."""
    document: dict[str, Any] = {"error": code, "error_description": description}
    response = json_answer(document, status=status)
    if status == 401:
        response.headers["WWW-Authenticate"] = 'Bearer error="invalid_token"'
    return response
