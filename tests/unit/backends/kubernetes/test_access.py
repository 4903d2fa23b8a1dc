"""How the cluster is reached: credentials that change, and configurations that must not be used."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from orchestrator.backends.kubernetes.access import Access
from orchestrator.backends.kubernetes.config import KubernetesConfig
from orchestrator.errors import ConfigurationError, TryAgainError

PLUGIN = """#!/bin/sh
count=$(cat "{state}" 2>/dev/null || echo 0)
count=$((count + 1))
echo "$count" > "{state}"
[ "$count" -lt 4 ] || {{ echo "secret-in-the-plugins-words" >&2; exit 1; }}
echo '{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"token-'$count'"}}}}'
"""


@pytest.fixture
def config(plain_pool) -> KubernetesConfig:
    return KubernetesConfig(
        installation="i",
        pools={plain_pool.name: plain_pool},
        agent_image="a",
        runner_api_url="https://r",
        runner_api_ca="",
        gateway_url="http://g",
    )


def kubeconfig(folder: Path, *, user: dict | None = None, **cluster) -> str:
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "one",
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in ("one", "two")],
        "clusters": [
            {"name": "one", "cluster": {"server": "https://127.0.0.1:1/", **cluster}},
            {"name": "two", "cluster": {"server": "https://127.0.0.1:2", "tls-server-name": "kubernetes"}},
        ],
        "users": [{"name": "me", "user": user or {"token": "fixed"}}],
    }
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document))
    return str(path)


async def test_a_kubeconfig_names_host_name_and_token(config, tmp_path):
    one = await Access.open(replace(config, kubeconfig=kubeconfig(tmp_path)))
    assert (one.host, one.server_name, one.proxy) == ("https://127.0.0.1:1", None, None)
    assert await one.headers() == {"Authorization": "Bearer fixed"}
    assert one.tls is not None
    assert one.tls.check_hostname
    two = await Access.open(replace(config, kubeconfig=kubeconfig(tmp_path), context="two"))
    assert (two.host, two.server_name) == ("https://127.0.0.1:2", "kubernetes")


async def test_a_plugins_token_is_renewed_once_for_all_who_were_refused(config, tmp_path):
    plugin = tmp_path / "plugin"
    plugin.write_text(PLUGIN.format(state=tmp_path / "count"))
    plugin.chmod(plugin.stat().st_mode | stat.S_IXUSR)
    user = {
        "exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": str(plugin), "interactiveMode": "Never"}
    }
    access = await Access.open(replace(config, kubeconfig=kubeconfig(tmp_path, user=user)))
    first = await access.headers()
    refused_under = access.generation
    await asyncio.gather(*(access.refresh(refused_under) for _ in range(5)))
    assert (first["Authorization"], (await access.headers())["Authorization"]) == ("Bearer token-1", "Bearer token-2")
    await access.refresh(access.generation)
    with pytest.raises(TryAgainError) as failed:
        await access.refresh(access.generation)
    assert failed.value.reason == "api_unauthorized"
    assert "secret" not in str(failed.value)
    # What was good before is kept: the server may take it again.
    assert (await access.headers())["Authorization"] == "Bearer token-3"


@pytest.mark.parametrize(
    "cluster",
    [{"insecure-skip-tls-verify": True}, {"server": "http://127.0.0.1:1"}, {"certificate-authority": "/no/such/file"}],
    ids=lambda value: next(iter(value)),
)
async def test_an_unsafe_or_broken_configuration_is_refused(config, tmp_path, cluster):
    with pytest.raises(ConfigurationError) as refused:
        await Access.open(replace(config, kubeconfig=kubeconfig(tmp_path, **cluster)))
    assert refused.value.fix


async def test_no_configuration_is_an_error_of_configuration(config, tmp_path):
    with pytest.raises(ConfigurationError):
        await Access.open(replace(config, kubeconfig=str(tmp_path / "none")))
    with pytest.raises(ConfigurationError):
        await Access.open(replace(config, kubeconfig=kubeconfig(tmp_path), context="three"))


@pytest.mark.parametrize("text", ["a: [secret-word", "secret-word", "[]", "", "contexts: secret-word", "\x00"])
async def test_a_file_that_is_no_kubeconfig_is_not_quoted(config, tmp_path, text):
    (tmp_path / "kubeconfig").write_text(text)
    with pytest.raises(ConfigurationError) as refused:
        await Access.open(replace(config, kubeconfig=str(tmp_path / "kubeconfig")))
    assert "secret-word" not in str(refused.value)
