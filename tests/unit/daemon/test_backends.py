"""Backends are chosen by pool, opened only when a pool names them, and asked for credentials in turn."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest

from orchestrator.daemon.backend_room import BackendRoom
from orchestrator.daemon.backends import OPENERS, AnyCredentials, open_backends
from orchestrator.daemon.slices import pools
from orchestrator.lifecycle.ports import RunnerIdentity
from orchestrator.model.runner import RunnerName
from orchestrator.settings import PoolSettings, Settings
from orchestrator.testing.backend import MemoryBackend


class MemoryRoom:
    """A second backend, as somebody else would add it."""

    def __init__(self, name: str) -> None:
        self.backend = MemoryBackend()
        self.credentials = self
        self.revokers = ()
        self.attesters = ()
        self.outlives_daemon = True
        self.identity = RunnerIdentity(RunnerName(f"runner-{name}"), name)
        self.asked: list[str] = []

    async def verify(self, credential: str) -> RunnerIdentity | None:
        self.asked.append(credential)
        return self.identity if credential == self.identity.uid else None

    async def start(self) -> None:
        return

    async def adopt(self, live) -> None:
        return

    async def serve(self, deps, stack) -> None:
        return

    def checks(self) -> dict[str, str]:
        return {}

    def lacking(self) -> dict[str, tuple[str, ...]]:
        return {}

    def warm(self) -> dict[str, int]:
        return {}

    def api_counts(self) -> tuple[()]:
        return ()

    async def align(self, record) -> None:
        return

    async def upkeep(self) -> None:
        return

    async def close(self) -> None:
        return


@pytest.fixture
def opened():
    return []


@pytest.fixture
def openers(opened):
    def opener(name):
        async def open_it(_near, _stack) -> BackendRoom:
            opened.append(name)
            return MemoryRoom(name)

        return open_it

    return {name: opener(name) for name in ("cloud", "local", "unused")}


async def test_only_backends_that_a_pool_names_are_opened_each_once(openers, opened):
    async with AsyncExitStack() as stack:
        rooms = await open_backends(["local", "cloud", "local"], None, stack, openers)
    assert list(rooms) == ["cloud", "local"]
    assert opened == ["cloud", "local"]


async def test_a_credential_is_the_one_runners_of_the_one_backend(openers):
    async with AsyncExitStack() as stack:
        rooms = await open_backends(["cloud", "local"], None, stack, openers)
    anyone = AnyCredentials(rooms.values())
    assert await anyone.verify("local") == RunnerIdentity(RunnerName("runner-local"), "local")
    assert await anyone.verify("cloud") == RunnerIdentity(RunnerName("runner-cloud"), "cloud")
    assert await anyone.verify("nobody") is None
    assert rooms["local"].asked == ["local", "nobody"], "who is known is not asked about any further"


def test_every_backend_with_an_opener_is_named_for_policy_and_can_be_chosen():
    choices = PoolSettings.model_json_schema()["properties"]["backend"]
    chosen = set(choices.get("enum") or [choices["const"]])
    assert OPENERS.keys() <= chosen
    for name in OPENERS:
        settings = Settings(pools=[{"name": "p", "backend": name}], state_dir="/nowhere")
        (pool,) = pools(settings).values()
        assert pool.base, name
        assert pool.isolation, name


def test_a_pods_image_and_boundary_are_facts_for_policy():
    pod = {"image": "registry.example/job@sha256:" + "0" * 64}
    given = [
        {"name": "plain", "backend": "kubernetes", "kubernetes": pod},
        {"name": "strong", "backend": "kubernetes", "kubernetes": pod | {"runtime_class": "gvisor"}},
    ]
    plain, strong = pools(Settings(pools=given, state_dir="/nowhere")).values()
    assert (plain.base, plain.isolation) == (pod["image"], "restricted")
    assert (strong.base, strong.isolation) == (pod["image"], "gvisor")
