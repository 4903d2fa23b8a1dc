"""The OPA adapter against a server that speaks OPA's Data API.

No OPA binary can be had here from the packages this project may use, so the other side is a stateful server
written to the API as documented and as measured on OPA 1.4.2: 200 without `result` for undefined, 500 for a
builtin's error under `strict-builtin-errors`, provenance with bundle revisions, 400 for a body that is not
JSON. It evaluates real bundles with the embedded interpreter and can be told to misbehave.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.model.decision import Verdict
from orchestrator.policy.bundle import default_bundle
from orchestrator.policy.engine import RegorusEngine
from orchestrator.policy.files import read_bundle
from orchestrator.policy.opa_server import OpaServerEngine
from orchestrator.policy.rego import Module, RegoFailureError, RegoProgram


class FakeOpa:
    """`fault` is one of: "", reset, cut, slow, garbage, oversize, redirect, unavailable, drip, wrong."""

    def __init__(self) -> None:
        bundle = read_bundle(default_bundle())
        self.modules, self.data_json = bundle.modules, bundle.data_json
        self.revision = "0123abcd"
        self.fault = ""
        self.faults_left = 1_000_000
        self.asked: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.url = ""

    def serve(self, *rules: str) -> None:
        self.modules = (Module("a.rego", "package orchestrator\n" + "\n".join(rules)),)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        if self.fault and self.faults_left > 0:
            self.faults_left -= 1
            return await self._misbehave(request)
        try:
            body = json.loads(await request.read())
        except ValueError:
            return web.json_response({"code": "invalid_parameter", "message": "body"}, status=400)
        self.bodies.append(body)
        path = "data." + request.match_info["path"].replace("/", ".")
        answer: dict[str, Any] = {}
        try:
            result = RegoProgram(self.modules, self.data_json).rule(path, json.dumps(body.get("input")))
        except RegoFailureError as failure:
            if "not a valid rule path" not in str(failure) and request.query.get("strict-builtin-errors") == "true":
                return web.json_response({"code": "internal_error", "message": "eval_builtin_error"}, status=500)
            result = None
        if result is not None:
            answer["result"] = json.loads(result)
        if request.query.get("provenance") == "true":
            bundles = {"main": {"revision": self.revision}} if self.revision else {}
            answer["provenance"] = {"version": "1.4.2", "build_commit": "x", "bundles": bundles}
        return web.json_response(answer)

    async def _misbehave(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        match self.fault:
            case "reset":
                transport.abort()
                return web.Response()
            case "cut":
                response = web.StreamResponse(headers={"Content-Length": "1000"})
                await response.prepare(request)
                await response.write(b'{"result": {"allow": true')
                transport.abort()
                return response
            case "slow":
                await asyncio.sleep(30)
                return web.Response()
            case "drip":
                response = web.StreamResponse()
                await response.prepare(request)
                for _ in range(1000):
                    await response.write(b" ")
                    await asyncio.sleep(0.02)
                return response
            case "garbage":
                return web.Response(text="<html>not OPA</html>")
            case "oversize":
                return web.Response(text='{"result": {"allow": true, "reasons": []}, "x": "' + "y" * (2 << 20) + '"}')
            case "redirect":
                raise web.HTTPTemporaryRedirect(f"{self.url}/elsewhere")
            case "wrong":
                return web.json_response({"result": {"allow": "true"}})
            case _:
                return web.json_response({"code": "unavailable"}, status=503)


@pytest.fixture
async def opa() -> AsyncIterator[FakeOpa]:
    fake = FakeOpa()
    app = web.Application(client_max_size=1 << 22)
    app.router.add_post("/v1/data/{path:.+}", fake.answer)

    async def elsewhere(_: web.Request) -> web.Response:
        return web.json_response({"result": {"allow": True}})

    app.router.add_route("*", "/elsewhere", elsewhere)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    fake.url = f"http://{host}:{port}"
    yield fake
    await runner.cleanup()


@pytest.fixture
async def engine(opa: FakeOpa) -> AsyncIterator[OpaServerEngine]:
    engine = OpaServerEngine(opa.url, timeout_seconds=1.0)
    yield engine
    await engine.aclose()


BUILD = json.dumps(
    {
        "stage": "admission",
        "request": {"deployment_environment": "", "secrets": []},
        "credentials": {"workload_identity": True, "static_secrets": 0},
        "job": {"id": "a.b.1"},
        "pool": {"name": "p", "trust_tier": "standard"},
        "caller": {"facts": {}},
    }
)


async def test_allow_and_deny_from_the_shipped_bundle(opa: FakeOpa, engine: OpaServerEngine) -> None:
    evaluation = await engine.evaluate(BUILD)
    assert evaluation.verdict is Verdict.ALLOW
    assert evaluation.engine == "opa/1.4.2 main@0123abcd"
    assert evaluation.bundle_digest.startswith("sha256:")
    assert opa.bodies == [{"input": json.loads(BUILD)}]
    assert opa.asked[0] == {"strict-builtin-errors": "true", "provenance": "true"}
    denied = await engine.evaluate("{}")
    assert denied.verdict is Verdict.DENY
    assert denied.document is not None
    assert {reason.code for reason in denied.document.reasons} == {"environment_unknown", "stage_unknown"}


async def test_both_engines_answer_alike(opa: FakeOpa, engine: OpaServerEngine) -> None:
    bundle = read_bundle(default_bundle())
    embedded = RegorusEngine(bundle.modules, bundle.data_json, bundle.digest)
    for text in (BUILD, "{}", '{"stage": "exchange"}', BUILD.replace('""', '"staging"')):
        ours, theirs = embedded.evaluate_now(text), await engine.evaluate(text)
        assert (ours.verdict, ours.document) == (theirs.verdict, theirs.document)


async def test_the_digest_follows_the_revision(opa: FakeOpa, engine: OpaServerEngine) -> None:
    first = (await engine.evaluate(BUILD)).bundle_digest
    opa.revision = "other"
    second = (await engine.evaluate(BUILD)).bundle_digest
    opa.revision = ""
    assert first != second
    assert (await engine.evaluate(BUILD)).bundle_digest == ""


async def test_undefined_is_200_without_result(opa: FakeOpa, engine: OpaServerEngine) -> None:
    opa.serve('decision := {"allow": true} if input.never')
    assert (await engine.evaluate("{}")).verdict is Verdict.UNDEFINED
    opa.serve("other := 1")
    assert (await engine.evaluate("{}")).verdict is Verdict.UNDEFINED


async def test_a_builtins_error_is_an_error_and_not_undefined(opa: FakeOpa, engine: OpaServerEngine) -> None:
    opa.serve('decision := {"allow": to_number("x") == 1}')
    evaluation = await engine.evaluate("{}")
    assert evaluation.verdict is Verdict.ERROR
    assert "500" in evaluation.detail


@pytest.mark.parametrize("fault", ["garbage", "oversize", "redirect", "unavailable", "wrong"])
async def test_faults_are_errors_at_once(opa: FakeOpa, engine: OpaServerEngine, fault: str) -> None:
    opa.fault = fault
    evaluation = await engine.evaluate(BUILD)
    assert evaluation.verdict is Verdict.ERROR
    assert evaluation.detail
    assert len(opa.asked) == 1


@pytest.mark.parametrize("fault", ["slow", "drip", "reset", "cut"])
async def test_silence_is_an_error_within_the_timeout(opa: FakeOpa, fault: str) -> None:
    opa.fault = fault
    engine = OpaServerEngine(opa.url, timeout_seconds=0.3)
    async with asyncio.timeout(5):
        evaluation = await engine.evaluate(BUILD)
    assert evaluation.verdict is Verdict.ERROR
    assert "0.3 seconds" in evaluation.detail
    await engine.aclose()


@pytest.mark.parametrize("fault", ["reset", "cut"])
async def test_a_lost_connection_is_tried_again(opa: FakeOpa, fault: str) -> None:
    opa.fault, opa.faults_left = fault, 2
    engine = OpaServerEngine(opa.url, timeout_seconds=10)
    assert (await engine.evaluate(BUILD)).verdict is Verdict.ALLOW
    assert len(opa.asked) == 3
    await engine.aclose()


async def test_nobody_listening(unused_tcp_port: int) -> None:
    engine = OpaServerEngine(f"http://127.0.0.1:{unused_tcp_port}", timeout_seconds=0.2)
    assert (await engine.evaluate(BUILD)).verdict is Verdict.ERROR
    with pytest.raises(TryAgainError) as caught:
        await engine.check()
    assert caught.value.reason == "policy_engine_unavailable"
    await engine.aclose()
    broken = OpaServerEngine("http://[not-an-address", timeout_seconds=0.2)
    assert (await broken.evaluate(BUILD)).verdict is Verdict.ERROR
    await broken.aclose()


async def test_too_large_a_question_is_not_sent(opa: FakeOpa) -> None:
    engine = OpaServerEngine(opa.url, max_input_bytes=100)
    assert (await engine.evaluate(json.dumps({"x": "y" * 100}))).verdict is Verdict.ERROR
    assert opa.asked == []
    await engine.aclose()


async def test_check_refuses_a_policy_that_allows_nothing_at_all_or_everything(
    opa: FakeOpa, engine: OpaServerEngine
) -> None:
    await engine.check()
    for rule in ('decision := {"allow": true}', "other := 1"):
        opa.serve(rule)
        with pytest.raises(ConfigurationError) as caught:
            await engine.check()
        assert caught.value.reason == "policy_invalid"
    opa.serve("decision := 1")
    with pytest.raises(TryAgainError):
        await engine.check()


async def test_a_session_that_was_handed_in_stays_open(opa: FakeOpa) -> None:
    async with aiohttp.ClientSession() as session:
        engine = OpaServerEngine(opa.url, session=session)
        assert (await engine.evaluate(BUILD)).verdict is Verdict.ALLOW
        await engine.aclose()
        assert not session.closed


async def test_cancelling_a_question_raises(opa: FakeOpa, engine: OpaServerEngine) -> None:
    opa.fault = "slow"
    task = asyncio.create_task(engine.evaluate(BUILD))
    while not opa.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
