"""A reload that widens a pool of pods to a new port: what is in force, what stays closed, and who says so."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestrator.testing.otlp import OtlpReceiver

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(120)]


def _module(name: str) -> Any:
    """Test modules are no package."""
    spec = importlib.util.spec_from_file_location(f"{name}_of_ports", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


daemons = _module("test_daemon")


def allow(here: Any, *rules: tuple[str, int]) -> None:
    path = here.folder / "orchestrator.yaml"
    document = yaml.safe_load(path.read_text())
    document["pools"][0]["egress"] = [{"host": host, "port": port} for host, port in rules]
    path.write_text(yaml.safe_dump(document))


async def said(here: Any, *words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "orchestrator", *words, stdout=asyncio.subprocess.PIPE, cwd=daemons.ROOT,
        env=os.environ | {"ORCHESTRATOR_STATE_DIR": str(here.state), "COLUMNS": "200"},
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out
    return out.decode()


async def closed(here: Any) -> list[str]:
    (pool,) = json.loads(await said(here, "pools", "--json"))["pools"]
    return [one for one in pool["guards_missing"] if "gateways reach no port" in one]


async def test_a_port_that_no_manifest_opens_is_named_by_the_reload_and_by_the_pools(world, tmp_path):
    async with OtlpReceiver() as receiver:
        here = daemons.Installation(world, tmp_path, receiver)
        here.configure()
        allow(here, ("allowed.example", 443))
        try:
            await here.start()
            assert await closed(here) == []
            allow(here, ("allowed.example", 443), ("other.example", 443))
            assert "port" not in await said(here, "reload"), "the NetworkPolicy knows ports, not hosts"
            allow(here, ("allowed.example", 443), ("other.example", 8443))
            answer = await said(here, "reload")
            assert "in force: pools.default.egress\n" in answer
            assert "pool default: gateways cannot reach port 8443 before the manifests" in answer
            assert await closed(here) == ["network-policy: gateways reach no port 8443; render and apply the manifests"]
            assert "port 8443" in await said(here, "reload"), "it is still so"
            allow(here, ("allowed.example", 443))
            assert "port" not in await said(here, "reload")
            assert await closed(here) == []
        finally:
            await here.close()
