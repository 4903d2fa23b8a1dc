"""`make demo-cluster`: the demo's pipeline with every job a pod of its own on a real node. See the README.

Installs the rendered manifests, starts the daemon with the ServiceAccount that they give it, has the gateway run as
its Deployment, dispatches the pipeline, prints what happened to each job, and proves that no pod and no process is
left. Exit code 0 when every job ended as it must, 69 when this machine has no node.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from api import Api
from pipeline import (
    PROJECT,
    DemoError,
    console,
    deploy_target,
    ended_token,
    pipeline,
    receipts,
    report,
    served_repository,
    tests_in_trace,
    unexpected,
)
from residue import OWN_PREFIX, Residue

sys.path.insert(0, str(PROJECT / "tests/cluster/node"))

from job_image import NAME, TOOLCHAIN, job_image
from node import IMAGES, Node, NoNodeError
from product import Product

from orchestrator.testing.otlp import OtlpReceiver

EX_UNAVAILABLE = 69
GIT, TARGET = "git.demo.internal", "deploy.demo.internal"
POD = {"image": NAME, "cpu": "800m", "memory": "1Gi", "workspace": "256Mi", "tmp": "128Mi", "grace_seconds": 1}


def bundle(folder: Path) -> Path:
    """The shipped policy, told that these pods may deploy to staging: their image, and what isolates them."""
    path = folder / "policy"
    shutil.copytree(PROJECT / "orchestrator/policy/bundles/default", path)
    data = json.loads((path / "data.json").read_text(encoding="utf-8"))
    data["environments"]["staging"]["approved_bases"].append(NAME)
    data["environments"]["staging"]["approved_isolation"].append("container")
    (path / "data.json").write_text(json.dumps(data, indent=2), encoding="utf-8")
    return path


def described(node: Node, folder: Path, git_port: int, target_port: int, otlp: str) -> Product:
    def pool(**more: object) -> dict:
        return {"capacity": 2, "kubernetes": POD, **more}

    def rule(host: str, port: int) -> list[dict]:
        return [{"host": host, "port": port, "protocol": "http"}]

    return Product(
        node, folder, node.load(IMAGES / "agent.oci.tar"), node.load(IMAGES / "daemon.oci.tar"),
        {
            "build": pool(egress=rule(GIT, git_port)),
            "deploy": pool(egress=rule(TARGET, target_port)),
            "closed": pool(trust_tier="untrusted"),
        },
        settings={
            "policy": {"bundle": str(bundle(folder))},
            "telemetry": {"otlp_endpoint": otlp, "export_interval_seconds": 0.1},
        },
        names={GIT: node.address, TARGET: node.address},
    )  # fmt: skip


async def demo(folder: Path) -> list[str]:
    """Run it all; what did not go as promised.

    Raises:
        NoNodeError: pods cannot really run here.
    """
    node = Node.found()
    console.print(f"node: {node.address}; its images are being loaded")
    await asyncio.to_thread(job_image, node)
    residue = Residue(folder, range(0))
    async with OtlpReceiver() as receiver, aiohttp.ClientSession() as session:
        # The target must know the issuer, and the daemon the target: the daemon's port is chosen first.
        product = described(node, folder, 1, 1, receiver.endpoint)
        url = f"http://127.0.0.1:{product.port}"
        async with (
            served_repository(folder, node.address) as git_port,
            deploy_target(url, node.address) as target_port,
        ):
            product.pools["build"]["egress"][0]["port"] = git_port
            product.pools["deploy"]["egress"][0]["port"] = target_port
            try:
                await asyncio.to_thread(product.install)
                daemon = await asyncio.to_thread(product.start)
                residue.watch(daemon.pid)
                gateway = product.addresses[product.gateway_host][0]
                console.print(f"daemon: {url}, process {daemon.pid}; gateway: a pod, {gateway}")
                problems = await run(product, url, session, receiver, git_port, target_port)
                left = await asyncio.to_thread(remaining, product)
                daemon.terminate()
                if code := await asyncio.to_thread(daemon.wait, 60):
                    problems.append(f"the daemon ended with exit code {code}")
            finally:
                await asyncio.to_thread(product.close)
    left += residue.left()
    console.print("left behind: " + ("; ".join(left) if left else "no pod, no process, no mount, no file"))
    return problems + left


async def run(
    product: Product, url: str, session: aiohttp.ClientSession, receiver: OtlpReceiver, git_port: int, target_port: int
) -> list[str]:
    api = Api(url, product.state / "caller-token", session, console)
    about = {"NODE": product.node.address}
    done = await pipeline(api, git_port, target_port, product.state, TOOLCHAIN, about)
    await report(api, done)
    problems = unexpected(done)
    problems += await ended_token(session, target_port, product.node.address)
    problems += await receipts(api, done, product.state)
    return problems + tests_in_trace(receiver, done[0])


def remaining(product: Product) -> list[str]:
    """Pods of jobs that are still there, a while after the last job's end."""
    until = time.monotonic() + 30
    while (left := product.left()) and time.monotonic() < until:
        time.sleep(0.2)
    return [f"pod {name}" for name in left]


def main() -> int:
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix=OWN_PREFIX))
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGINT))  # both unwind, so that nothing is left behind
    try:
        problems = asyncio.run(demo(folder))
    except NoNodeError as error:
        console.print(f"NOT SHOWN: {error}", style="bold red")
        return EX_UNAVAILABLE
    except (DemoError, AssertionError) as error:
        problems = [str(error)]
    except KeyboardInterrupt:
        problems = ["interrupted"]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for problem in problems:
        console.print(f"problem: {problem}", style="bold red")
    console.print(f"{'all as promised' if not problems else 'not as promised'}, {time.monotonic() - begun:.1f} s")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
