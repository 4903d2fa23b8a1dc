"""What operators ask of the daemon itself, over HTTP: who may, and what a request may bring."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from orchestrator.model.job import Caller
from orchestrator.server.operating.port import OperatingDesk


class Desk:
    """Counts what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def reload(self, caller: Caller) -> Mapping[str, Any]:
        self.asked.append("reload")
        return {"outcome": "unchanged", "parts": []}

    def draining(self) -> Mapping[str, Any]:
        return {"draining": False}

    async def drain(self, caller: Caller, limit_seconds: float | None) -> Mapping[str, Any]:
        self.asked.append(f"drain {limit_seconds}")
        return self.draining()

    async def resume(self, caller: Caller) -> Mapping[str, Any]:
        self.asked.append("resume")
        return self.draining()


@pytest.fixture
def operating() -> OperatingDesk:
    return Desk()


async def send(api: Any, method: str, path: str, body: bytes | None, kind: str = "application/json") -> tuple[int, str]:
    headers = api.operator | ({"Content-Type": kind} if body else {})
    async with api.client.request(method, api.url + path, data=body, headers=headers) as answer:
        return answer.status, (await answer.json()).get("reason", "")


async def test_a_reload_takes_no_body_or_an_empty_object(api: Any, operating: Desk) -> None:
    for method, path in (("POST", "/v1/reload"), ("DELETE", "/v1/drain")):
        for body in (b"[]", b"null", b"0", b'""', b"false", b'{"pools": []}', b"[{}]"):
            assert await send(api, method, path, body) == (400, "body_unexpected"), body
        for body in (b"settings", b"{", b"{}{}", b"\xff"):
            assert await send(api, method, path, body) == (400, "json_malformed"), body
        assert (await send(api, method, path, b" " * 70_000))[0] == 413
    assert operating.asked == []
    for fine in (None, b"", b"{}", b" { }\n"):
        assert await send(api, "POST", "/v1/reload", fine) == (200, ""), fine
    assert await send(api, "POST", "/v1/reload", b"{}", "application/x-www-form-urlencoded") == (200, "")
    assert operating.asked == ["reload"] * 5


async def test_a_drain_is_an_object_with_a_limit_or_none(api: Any, operating: Desk) -> None:
    for body in (b"[]", b"null", b'{"limit_seconds": -1}', b'{"limit_seconds": "5"}', b'{"limit": 5}'):
        assert await send(api, "POST", "/v1/drain", body) == (422, "validation_failed"), body
    assert (await send(api, "POST", "/v1/drain", None))[0] == 415
    assert operating.asked == []
    assert await send(api, "POST", "/v1/drain", b"{}") == (200, "")
    assert await send(api, "POST", "/v1/drain", b'{"limit_seconds": 5}') == (200, "")
    assert operating.asked == ["drain None", "drain 5.0"]


async def test_only_operators_by_their_token(api: Any, operating: Desk) -> None:
    for method, path in (("POST", "/v1/reload"), ("POST", "/v1/drain"), ("DELETE", "/v1/drain"), ("GET", "/v1/drain")):
        for headers, status in ((api.forge(), 403), ({}, 401)):
            answer = await api.client.request(method, api.url + path, json={}, headers=headers)
            assert answer.status == status, (method, path)
    assert operating.asked == []


async def test_others_that_take_no_body_do_not_take_one_for_nothing(api: Any) -> None:
    job_id = await api.job("one")
    assert await send(api, "DELETE", f"/v1/jobs/{job_id}", b"[]") == (400, "body_unexpected")
    assert await send(api, "POST", "/v1/session/link", b"[]") == (400, "body_unexpected")
    assert (await (await api.client.get(f"{api.url}/v1/jobs/{job_id}", headers=api.operator)).json())["cancel"] is None
