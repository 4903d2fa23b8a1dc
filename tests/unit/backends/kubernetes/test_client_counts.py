"""What the client counts of its requests, against a server that answers as told."""

from __future__ import annotations

import pytest
from aiohttp import web

from orchestrator.backends.kubernetes.client import ApiClient, asked
from orchestrator.errors import OrchestratorError


class Access:
    """As the real one, for plain HTTP and without credentials."""

    tls = server_name = proxy = None
    generation = 0

    def __init__(self, host: str) -> None:
        self.host = host

    async def headers(self) -> dict[str, str]:
        return {}

    async def refresh(self, generation: int) -> None:
        assert generation == 0


POD = "/api/v1/namespaces/runners/pods/one"


@pytest.mark.parametrize(
    ("method", "path", "watch", "expected"),
    [
        ("GET", "/api/v1/namespaces/runners/pods", False, ("list", "pods")),
        ("GET", "/api/v1/namespaces/runners/pods", True, ("watch", "pods")),
        ("GET", POD, False, ("get", "pods")),
        ("GET", f"{POD}/log", False, ("get", "pods/log")),
        ("POST", "/api/v1/namespaces/runners/pods", False, ("create", "pods")),
        ("DELETE", POD, False, ("delete", "pods")),
        ("POST", "/apis/authentication.k8s.io/v1/tokenreviews", False, ("create", "tokenreviews")),
        ("PUT", "/apis/coordination.k8s.io/v1/namespaces/ci/leases/ours", False, ("update", "leases")),
        ("GET", "/api/v1/namespaces/runners", False, ("get", "namespaces")),
        ("GET", "/version", False, ("list", "other")),
    ],
)
def test_requests_are_named_as_rights_are(method: str, path: str, watch: bool, expected: tuple[str, str]) -> None:
    assert asked(method, path, watch=watch) == expected


@pytest.fixture
async def api():
    answers: list[int] = []

    async def handle(_: web.Request) -> web.Response:
        return web.json_response({}, status=answers.pop(0) if answers else 200)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with ApiClient(Access(f"http://127.0.0.1:{runner.addresses[0][1]}"), timeout=5) as client:
        yield client, answers
    await runner.cleanup()


async def test_answers_failures_and_repetitions_are_counted(api) -> None:
    client, answers = api
    await client.request("GET", POD)
    answers += [503, 404, 401, 200]
    for _ in range(2):
        with pytest.raises(OrchestratorError):
            await client.request("GET", POD)
    await client.request("GET", POD)
    counts = {labels: sum(times.counts) for labels, times in client.counts.times().items()}
    assert counts == {("get", "pods", "2xx"): 2, ("get", "pods", "5xx"): 1, ("get", "pods", "4xx"): 2}
    assert client.counts.failures == {
        ("get", "pods", "api_unavailable"): 1,
        ("get", "pods", "api_not_found"): 1,
        ("get", "pods", "api_unauthorized"): 1,
    }
    assert client.counts.retries == {("get", "pods", "api_unauthorized"): 1}


async def test_a_server_that_is_not_there_is_counted_as_no_answer() -> None:
    async with ApiClient(Access("http://127.0.0.1:9"), timeout=1) as client:
        with pytest.raises(OrchestratorError):
            await client.request("GET", POD)
        assert [*client.counts.times()] == [("get", "pods", "none")]
        assert client.counts.failures == {("get", "pods", "api_unavailable"): 1}
