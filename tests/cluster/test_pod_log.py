"""A job's output from a real kubelet: every line once, through connections that are cut."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from orchestrator.backends.kubernetes.answers import NotFoundError
from orchestrator.backends.kubernetes.client import ApiClient
from orchestrator.backends.kubernetes.pod_log import Position, read_log
from orchestrator.errors import OrchestratorError

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]

IMAGE = "runner.local/busybox:1"


@pytest.fixture
async def node(world):
    """A namespace whose pods run: only on a cluster with a real node that has our image."""
    nodes = (await world.call("GET", "/api/v1/nodes"))["items"]
    images = [name for one in nodes for image in one["status"].get("images") or () for name in image.get("names") or ()]
    if IMAGE not in images:
        pytest.skip(f"no node of this cluster has the image {IMAGE}")
    return world


async def run(world, name: str, script: str, image: str = IMAGE) -> str:
    container = {
        "name": "job", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["/bin/sh", "-c", script],
    }  # fmt: skip
    spec = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]}
    await world.call("POST", world.pods(), {"metadata": {"name": name}, "spec": spec})
    return name


class Reader:
    """Reads on after every cut, as the daemon does, until the container has ended."""

    def __init__(self, world, client: ApiClient, pod: str) -> None:
        self.world, self.client, self.pod = world, client, pod
        self.position, self.text, self.opened, self.refused = Position(), b"", 0, set()

    async def write(self, output: bytes, reached: Position) -> None:
        self.text += output
        self.position = reached

    async def ended(self) -> bool:
        status = (await self.world.call("GET", f"{self.world.pods()}/{self.pod}"))["status"]
        return status.get("phase") in ("Succeeded", "Failed")

    async def all(self) -> list[str]:
        while True:
            over = await self.ended()
            try:
                whole = await read_log(
                    self.client, self.world.namespaces[0], self.pod, Position.read(self.position.text()), self.write
                )
                self.opened += 1
                if whole and over:
                    return self.text.decode().splitlines()
            except NotFoundError:
                raise
            except OrchestratorError as error:
                self.refused.add(error.reason)
            await asyncio.sleep(0.05)


async def test_every_line_comes_once_through_cuts(node, tmp_path):
    proxy, config = await node.proxy(tmp_path)
    client = await ApiClient.open(config)
    script = (
        "i=0; while [ $i -lt 4000 ]; do echo line $i; i=$((i+1)); [ $((i%100)) = 0 ] && usleep 50000; done; printf end"
    )
    try:
        reader = Reader(node, client, await run(node, "talks", script))
        reading = asyncio.create_task(reader.all())
        cuts = 0
        while not reading.done() and cuts < 8:
            await asyncio.sleep(0.3)
            cuts += bool(reader.text) and proxy.cut()
        async with asyncio.timeout(60):
            lines = await reading
    finally:
        await client.close()
    assert lines == [f"line {number}" for number in range(4000)] + ["end"]
    assert reader.opened > 1
    assert cuts


async def test_a_container_that_has_not_begun_and_a_pod_that_is_gone(node):
    with pytest.raises(NotFoundError):
        await read_log(node.admin, node.namespaces[0], "nobody", Position(), None)
    waits = Reader(node, node.admin, await run(node, "waits", "true", "registry.example/none:1"))
    with contextlib.suppress(OrchestratorError):  # refused once it has a node, and empty before
        await read_log(node.admin, node.namespaces[0], waits.pod, Position(), waits.write)
    assert waits.text == b""
    reader = Reader(node, node.admin, await run(node, "quiet", "sleep 1"))
    async with asyncio.timeout(60):
        assert await reader.all() == []


async def test_lines_without_an_end_of_any_length_and_of_any_bytes(node):
    script = "printf '\\377\\000x\\n'; head -c 300000 /dev/zero | tr '\\000' a; echo; echo; echo last"
    reader = Reader(node, node.admin, await run(node, "odd", script))
    async with asyncio.timeout(60):
        while not await reader.ended():
            await asyncio.sleep(0.1)
        await reader_all_bytes(reader)
    assert reader.text == b"\xff\x00x\n" + b"a" * 300_000 + b"\n\nlast\n"


async def reader_all_bytes(reader: Reader) -> None:
    assert await read_log(reader.client, reader.world.namespaces[0], reader.pod, Position(), reader.write)
