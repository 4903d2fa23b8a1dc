"""Fixtures of the tests on a real node. Without one they are skipped with the reason; REQUIRE_NODE=1 fails them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from node import IMAGES, PYTHON, ROOT, Node, NoNodeError, of_layers, python_base, runner_layer
from product import ALLOWED, Product, Witness, installed

BUSYBOX_POD = {"image": "runner.local/busybox:1", "cpu": "300m", "memory": "96Mi", "workspace": "16Mi", "tmp": "16Mi",
               "grace_seconds": 1}  # fmt: skip


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """The node, with the images that tests use."""
    try:
        found = Node.found()
        base = python_base(ROOT / "images/base/packages")
        place = tmp_path_factory.mktemp("image")
        archive = of_layers(PYTHON, [base, runner_layer(place / "runner.tar")], place / "python.tar")
        found.load(archive)
        archive.unlink()
        found.load(IMAGES / "agent.oci.tar")
        found.load(IMAGES / "daemon.oci.tar")
    except NoNodeError as error:
        pytest.fail(str(error)) if os.environ.get("REQUIRE_NODE") == "1" else pytest.skip(f"NO NODE: {error}")
    return found


@pytest.fixture(scope="session")
def images(node: Node) -> tuple[str, str]:
    """Names of the agent's and the daemon's image."""
    return node.load(IMAGES / "agent.oci.tar"), node.load(IMAGES / "daemon.oci.tar")


@pytest.fixture(scope="session")
def witness(node: Node) -> Iterator[Witness]:
    made = Witness(node.address)
    yield made
    made.close()


@pytest.fixture(scope="session")
def described(node: Node, images: tuple[str, str], witness: Witness) -> Callable[..., Product]:
    """A product that is not installed yet; `pools` by name, each a change of a small pool of busybox."""

    def make(folder: Path, pools: dict[str, dict[str, Any]], **more: Any) -> Product:
        rule = {"host": ALLOWED, "port": witness.port, "protocol": "http"}
        complete = {
            name: {"egress": [rule], "capacity": 4, **given, "kubernetes": BUSYBOX_POD | given.get("kubernetes", {})}
            for name, given in pools.items()
        }
        return Product(node, folder, *images, complete, names={ALLOWED: node.address}, **more)

    return make


@pytest.fixture
def product(described: Callable[..., Product], tmp_path: Path) -> Iterator[Product]:
    """An installation of the test's own, with one pool `shell`; started."""
    with installed(described(tmp_path, {"shell": {}})) as made:
        yield made
