"""Hostile input meets us here first: bounded bodies, strict JSON, strict forms, strict query strings."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import parse_qsl

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError
from pydantic import BaseModel, ValidationError

from orchestrator.server.entrance.problems import Fault, ProblemError
from orchestrator.server.faults import wrong

Model = TypeVar("Model", bound=BaseModel)

MAX_FAULTS = 20
"""Places named in one answer; a request with more gets the first ones."""
_READ_BYTES = 64 * 1024


async def read_body(
    request: web.BaseRequest,
    *,
    limit_bytes: int,
    timeout_seconds: float,
    compressed: bool = False,
    hold: Callable[[int], None] | None = None,
) -> bytes:
    """The whole body, at most `limit_bytes` long and within `timeout_seconds`, never decompressed.

    `hold` is told of each piece's size as it comes, and may raise.

    Raises:
        ProblemError: `body_too_large` (said before reading where Content-Length tells), `body_too_slow`,
            `body_malformed`, or `media_type_unsupported` for a Content-Encoding unless `compressed` bytes are welcome.
    """
    if not compressed and request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise ProblemError("The body must not be compressed.", reason="media_type_unsupported")
    length = request.content_length
    if length is not None and length > limit_bytes:
        raise _too_large(limit_bytes)
    if not request.can_read_body:
        return b""
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_seconds):
            while chunk := await request.content.read(_READ_BYTES):
                body += chunk
                if hold is not None:
                    hold(len(chunk))
                if len(body) > limit_bytes:
                    raise _too_large(limit_bytes)
    except TimeoutError:
        raise ProblemError(
            f"The body did not arrive within {timeout_seconds:g} seconds.",
            reason="body_too_slow",
            headers={"Connection": "close"},
        ) from None
    except RequestPayloadError:
        raise ProblemError("The body's framing is broken.", reason="body_malformed") from None
    return bytes(body)


def _too_large(limit_bytes: int) -> ProblemError:
    return ProblemError(
        f"The body may have at most {limit_bytes} bytes.", reason="body_too_large", headers={"Connection": "close"}
    )


def require_media_type(request: web.BaseRequest, expected: str) -> None:
    """Raises ProblemError `media_type_unsupported` unless the Content-Type is `expected` (parameters aside)."""
    if "Content-Type" not in request.headers or request.content_type != expected:
        raise ProblemError(
            f"The Content-Type must be {expected}.", reason="media_type_unsupported", headers={"Accept": expected}
        )


def strict_json(data: bytes) -> object:
    """Parse JSON (RFC 8259) as I-JSON (RFC 7493) asks: UTF-8, no duplicate names, only finite numbers.

    Two readers of one text must never see two things, so nothing ambiguous gets through.

    Raises:
        ProblemError: `json_malformed`.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("The body is not UTF-8.") from None
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_not_finite, parse_float=_finite)
    except json.JSONDecodeError as error:
        raise _malformed(f"The body is not JSON: line {error.lineno}, column {error.colno}.") from None
    except RecursionError:
        raise _malformed("The JSON is nested too deeply.") from None
    except ValueError:
        raise _malformed("The body holds a number that is too long.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _malformed("An object in the body has the same name twice.")
    return result


def _not_finite(_word: str) -> float:
    raise _malformed("The body holds a number that is not finite.")


def _finite(text: str) -> float | int:
    """A finite number; `60.0` is the integer 60, as JSON Schema has it."""
    value = float(text)
    if not math.isfinite(value):
        return _not_finite(text)
    return int(value) if value.is_integer() and abs(value) < 1 << 53 else value


def _malformed(message: str) -> ProblemError:
    return ProblemError(message, reason="json_malformed")


def validated(model: type[Model], data: object, *, reason: str = "validation_failed", lax: bool = False) -> Model:
    """`data` as a model, or a ProblemError that names each wrong place and never the value found there."""
    try:
        return model.model_validate(data, strict=not lax)
    except ValidationError as error:
        faults = [
            Fault(_pointer(item["loc"]), wrong(item))
            for item in error.errors(include_url=False, include_input=False)[:MAX_FAULTS]
        ]
        raise ProblemError("The request does not fit the schema.", reason=reason, faults=faults) from None


def _pointer(location: tuple[int | str, ...]) -> str:
    """RFC 6901 pointer in fragment form. It stops before names of a mapping, which the request made up."""
    first = location[0] if location else ""
    if not isinstance(first, str) or not first.isidentifier() or len(first) > 64:
        return "#"
    inner = [part for part in location[1:2] if isinstance(part, int)]
    return "#" + "".join(f"/{part}" for part in (first, *inner))


async def read_model(
    request: web.BaseRequest, model: type[Model], *, limit_bytes: int, timeout_seconds: float
) -> Model:
    """The JSON body of a request as a model; raises ProblemError for everything that is wrong with it."""
    require_media_type(request, "application/json")
    return validated(
        model, strict_json(await read_body(request, limit_bytes=limit_bytes, timeout_seconds=timeout_seconds))
    )


async def read_nothing(request: web.BaseRequest, *, timeout_seconds: float) -> None:
    """The body of a request that has nothing to say: none, or `{}`. What else there is was meant for something, and
    must not be taken as done.

    Raises:
        ProblemError: `body_unexpected`, or as `read_body` and `strict_json`.
    """
    body = await read_body(request, limit_bytes=_READ_BYTES, timeout_seconds=timeout_seconds)
    if body and strict_json(body) != {}:
        raise ProblemError("This takes no body, or an empty object.", reason="body_unexpected")


async def read_form(
    request: web.BaseRequest, *, limit_bytes: int, timeout_seconds: float, max_fields: int = 32
) -> list[tuple[str, str]]:
    """An `application/x-www-form-urlencoded` body as pairs in order, duplicates kept for the reader to judge.

    Raises:
        ProblemError: as `read_body`, `media_type_unsupported`, or `body_malformed` for a broken form.
    """
    require_media_type(request, "application/x-www-form-urlencoded")
    body = await read_body(request, limit_bytes=limit_bytes, timeout_seconds=timeout_seconds)
    try:
        return parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            encoding="utf-8",
            errors="strict",
            max_num_fields=max_fields,
        )
    except ValueError:
        raise ProblemError("The form cannot be read.", reason="body_malformed") from None


def read_query(request: web.Request, model: type[Model]) -> Model:
    """The query string as a model. A name given twice or not known is an error, never silently ignored."""
    query: Mapping[str, str] = request.query
    if len(query) != len(set(query)):
        raise ProblemError("A query parameter is given twice.", reason="query_invalid")
    return validated(model, dict(query), reason="query_invalid", lax=True)
