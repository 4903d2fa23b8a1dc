"""Tokens of pods before, at and after the API server's word; its answers are scripted, the rest is real."""

from __future__ import annotations

import asyncio
import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.backends.kubernetes import credentials as module
from orchestrator.backends.kubernetes.config import RUNNER_AUDIENCE
from orchestrator.backends.kubernetes.credentials import AccountCredentials, PodCredentials, TokenReviewer
from orchestrator.backends.kubernetes.pod_token import MAX_TOKEN_CHARS, PodIdentity, claimed
from orchestrator.errors import GiveUpError, TryAgainError
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.runner import RunnerName

NOW = 1_790_000_000.0
POD = PodIdentity("runners-default", "runner-1", "uid-1")


def encoded(document) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def token(pod: PodIdentity = POD, account: str = "runner", header=None, signature: str = "sig", **changes) -> str:
    claims = {
        "aud": [RUNNER_AUDIENCE],
        "exp": int(NOW) + 600,
        "iat": int(NOW),
        "nbf": int(NOW),
        "iss": "https://kubernetes.default.svc",
        "sub": f"system:serviceaccount:{pod.namespace}:{account}",
        "kubernetes.io": {
            "namespace": pod.namespace,
            "pod": {"name": pod.name, "uid": pod.uid},
            "serviceaccount": {"name": account, "uid": "sa-uid"},
        },
    } | changes
    return f"{encoded(header or {'alg': 'RS256', 'kid': 'k'})}.{encoded(claims)}.{signature}"


class Cluster:
    """What the API server answers to TokenReviews."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.status: dict | None = None
        self.gate: asyncio.Event | None = None
        self.inside = self.most = 0

    async def request(self, _method: str, _path: str, *, body: bytes, **_more) -> bytes:
        spec = json.loads(body)["spec"]
        self.asked.append(spec["token"])
        assert spec["audiences"] == [RUNNER_AUDIENCE]
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if self.gate is not None:
                await self.gate.wait()
            if self.fault is not None:
                raise self.fault
        finally:
            self.inside -= 1
        if self.status is not None:
            return json.dumps({"status": self.status}).encode()
        return json.dumps({"status": self.vouch(spec["token"])}).encode()

    @staticmethod
    def vouch(token: str, **changes) -> dict:
        part = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        pod = claims["kubernetes.io"]["pod"]
        extra = {
            "authentication.kubernetes.io/pod-name": [pod["name"]],
            "authentication.kubernetes.io/pod-uid": [pod["uid"]],
        }
        user = {"username": claims["sub"], "extra": extra}
        return {"authenticated": True, "user": user, "audiences": [RUNNER_AUDIENCE]} | changes


class Directory:
    """Live records and warm pods of a daemon."""

    def __init__(self) -> None:
        self.runners: dict[PodIdentity, RunnerName] = {POD: RunnerName("runner-1")}
        self.warm: set[PodIdentity] = set()

    def runner_of(self, pod: PodIdentity) -> RunnerName | None:
        return self.runners.get(pod)

    def waiting(self, pod: PodIdentity) -> bool:
        return pod in self.warm


class World:
    def __init__(self) -> None:
        self.cluster, self.directory = Cluster(), Directory()
        self.now, self.steady = NOW, 1000.0
        self.reviewer = TokenReviewer(self.cluster)
        clocks = {"now": lambda: self.now, "monotonic": lambda: self.steady}
        self.pods = PodCredentials(self.reviewer, {POD.namespace}, self.directory, **clocks)
        self.gateways = AccountCredentials(self.reviewer, "orchestrator", "gateway", **clocks)

    def later(self, seconds: float) -> None:
        self.now += seconds
        self.steady += seconds


@pytest.fixture
async def world():
    return World()


async def test_a_confirmed_token_is_the_runners_and_is_asked_for_again_after_ten_seconds(world):
    presented = token()
    for _ in range(5):
        assert await world.pods.verify(presented) == RunnerIdentity(RunnerName("runner-1"), "uid-1")
    assert len(world.cluster.asked) == 1
    world.later(9.9)
    await world.pods.verify(presented)
    assert len(world.cluster.asked) == 1
    world.later(0.2)
    await world.pods.verify(presented)
    assert len(world.cluster.asked) == 2


async def test_the_cache_never_lasts_longer_than_the_token(world):
    presented = token(exp=int(NOW) + 3)
    assert await world.pods.verify(presented)
    world.later(3.1)
    assert await world.pods.verify(presented) is None
    assert len(world.cluster.asked) == 1


async def test_an_ended_jobs_token_is_refused_at_once_and_nobody_is_asked(world):
    presented = token()
    assert await world.pods.verify(presented)
    world.directory.runners.clear()
    assert await world.pods.verify(presented) is None
    assert await world.pods.verify(token(signature="other")) is None
    assert len(world.cluster.asked) == 1


async def test_a_job_that_ends_while_the_cluster_is_asked_is_over(world):
    world.cluster.gate = asyncio.Event()
    asking = asyncio.create_task(world.pods.verify(token()))
    while not world.cluster.asked:
        await asyncio.sleep(0)
    world.directory.runners.clear()
    world.cluster.gate.set()
    assert await asking is None


async def test_a_no_is_not_kept(world):
    world.cluster.status = {"authenticated": False, "error": "expired"}
    presented = token()
    assert await world.pods.verify(presented) is None
    world.cluster.status = None
    assert await world.pods.verify(presented) is not None


@pytest.mark.parametrize(
    "changes",
    [
        {"authenticated": False},
        {"audiences": []},
        {"audiences": ["somebody-else"]},
        {"audiences": None},
        {"user": None},
        {"user": {"username": "system:serviceaccount:other:runner", "extra": {}}},
        {"user": {"username": "system:serviceaccount:runners-default:runner", "extra": None}},
        {
            "user": {
                "username": "system:serviceaccount:runners-default:runner",
                "extra": {
                    "authentication.kubernetes.io/pod-name": ["runner-1"],
                    "authentication.kubernetes.io/pod-uid": ["uid-2"],
                },
            }
        },
    ],
)
async def test_only_a_whole_yes_is_a_yes(world, changes):
    world.cluster.status = Cluster.vouch(token(), **changes)
    assert await world.pods.verify(token()) is None


@pytest.mark.parametrize(
    "fault",
    [
        TryAgainError("away", reason="api_unavailable"),
        TryAgainError("busy", reason="api_busy", retry_after_seconds=1),
        GiveUpError("no right to tokenreviews", reason="create_refused"),
    ],
)
async def test_while_the_cluster_cannot_be_asked_nobody_is_let_in_and_all_may_come_again(world, fault):
    world.cluster.fault = fault
    with pytest.raises(TryAgainError) as caught:
        await world.pods.verify(token())
    assert caught.value.reason == "temporarily_unavailable"
    assert caught.value.retry_after_seconds
    assert "sig" not in str(caught.value)


GARBAGE = [
    "",
    "x",
    "a.b.c",
    "..",
    token(header={"alg": "none", "kid": "k"}),
    token(header={"alg": "RS256"}),
    token(signature=""),
    token(account="default"),
    token(aud=["https://kubernetes.default.svc"]),
    token(exp=int(NOW) - 1),
    token(nbf=int(NOW) + 3600),
    token(sub="system:serviceaccount:other:runner"),
    token(PodIdentity("kube-system", "runner-1", "uid-1")),
    token(PodIdentity(POD.namespace, "runner-2", "uid-2")),
    token(PodIdentity(POD.namespace, "runner-1", "")),
    token(**{"kubernetes.io": {"namespace": POD.namespace, "serviceaccount": {"name": "runner", "uid": "u"}}}),
    token() + "." + "x",
    token(pad="x" * MAX_TOKEN_CHARS),
    "ü" + token()[1:],
]


@pytest.mark.parametrize("presented", GARBAGE)
async def test_what_the_cluster_would_refuse_or_we_have_no_use_for_costs_it_nothing(world, presented):
    assert await world.pods.verify(presented) is None
    assert world.cluster.asked == []


@given(st.text(max_size=200) | st.binary(max_size=120).map(lambda data: encoded({"x": data.hex()}) + ".e30.s"))
def test_anything_is_read_or_refused(text):
    assert claimed(text, RUNNER_AUDIENCE, NOW) is None


async def test_a_flood_is_reviewed_few_at_a_time_and_the_rest_is_sent_away(world, monkeypatch):
    monkeypatch.setattr(module, "MAX_WAITING", 40)
    world.cluster.gate = asyncio.Event()
    flood = [asyncio.create_task(world.pods.verify(token(signature=f"s{number}"))) for number in range(200)]
    await asyncio.sleep(0.01)
    world.cluster.gate.set()
    answers = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(answer, RunnerIdentity) for answer in answers) == 40
    assert sum(isinstance(answer, TryAgainError) for answer in answers) == 160
    assert world.cluster.most <= module.REVIEWS_AT_ONCE


async def test_the_cache_is_bounded(world, monkeypatch):
    monkeypatch.setattr(module, "MAX_CACHED", 3)
    for number in range(5):
        await world.pods.verify(token(signature=f"s{number}"))
    assert len(world.pods._cache._until) == 3


async def test_a_warm_pod_is_known_and_is_no_runner(world):
    warm = PodIdentity(POD.namespace, "warm-default-1", "uid-w")
    assert await world.pods.pod(token(warm)) is None
    world.directory.warm.add(warm)
    assert await world.pods.pod(token(warm)) == warm
    assert await world.pods.verify(token(warm)) is None
    world.directory.warm.clear()
    world.directory.runners[warm] = RunnerName("runner-9")
    assert await world.pods.verify(token(warm)) == RunnerIdentity(RunnerName("runner-9"), "uid-w")


async def test_gateways_are_pods_of_their_own_account_only(world):
    gateway = PodIdentity("orchestrator", "gateway-1", "uid-g")
    assert await world.gateways.verify(token(gateway, "gateway")) == gateway
    for wrong in (token(), token(gateway, "daemon"), token(PodIdentity("runners-default", "g", "u"), "gateway")):
        assert await world.gateways.verify(wrong) is None
    assert await world.pods.verify(token(gateway, "gateway")) is None
    assert len(world.cluster.asked) == 1
