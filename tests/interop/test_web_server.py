"""A web server of others lets jobs in by their tokens, and if it asks us, for no longer than they live."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from daemon_site import Site
from forge import Forge
from interop import free_ports, needs
from tls_proxy import TlsProxy
from web_server import AUDIENCE, HOST, PAGE, WebServer
from witness import PYTHON

pytestmark = [needs("apache"), pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

OTHER = "https://other.example"
WHEN = {"repository_id": {"equals": "42"}, "ref_protected": {"equals": "true"}}
GET = """
import os, sys, urllib.error, urllib.request
for address in sys.argv[2:]:
    request = urllib.request.Request(address, headers={"Authorization": "Bearer " + sys.argv[1]})
    try:
        print(urllib.request.urlopen(request, timeout=20).read().decode(), end="")
    except urllib.error.HTTPError as error:
        print("refused", error.code)
"""


def document(environment: str) -> dict[str, Any]:
    targets = {"web": {"kind": "oidc", "audience": AUDIENCE}, "other": {"kind": "oidc", "audience": OTHER}}
    grants = [{"name": f"app-{name}", "when": WHEN, "target": name, "max_ttl_seconds": 300} for name in targets]
    return {"trust_map": 1, "environment": environment, "targets": targets, "grants": grants}


class World:
    def __init__(self, site: Site, web: WebServer) -> None:
        self.site, self.web, self.forge = site, web, Forge(site)
        self.doors = f"http://{HOST}:{web.keys_port}/keys/index http://{HOST}:{web.asks_port}/asks/index"

    async def open_to(self, token: str) -> tuple[int, int]:
        """What both doors say: the one that knows our keys, and the one that asks us."""
        keys = await asyncio.to_thread(self.web.open_to, "keys", token)
        return keys, await asyncio.to_thread(self.web.open_to, "asks", token)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("web")
    documents = [document("prod"), document("staging")]
    (port,) = free_ports(1)
    url = f"https://localhost:{port}"
    site = Site(folder / "site", audiences={AUDIENCE: {}, OTHER: {}}, trust_maps=documents, public_url=url)
    proxy = TlsProxy(folder, port, site.url)
    web = WebServer(folder / "apache", site.issuer, proxy.ca_file)
    try:
        site.configure(*((HOST, "127.0.0.1", port, "http") for port in (web.keys_port, web.asks_port)))
        async with proxy:
            await site.here.start()
            await web.ready()
            yield World(site, web)
    finally:
        web.end()
        await site.here.close()
    assert await site.here.left() == []


def script(world: World, audience: str = AUDIENCE) -> str:
    """`rev` because a token as it is would be masked in the log."""
    return f"""
cat > get.py <<'EOF'
{GET}EOF
token=$(orchestrator-token --audience {audience})
{PYTHON} get.py "$token" {world.doors}
echo "backwards $(printf %s "$token" | rev)"
"""


async def test_a_job_gets_in_while_it_runs_and_its_token_does_not_outlive_it_where_we_are_asked(world: World) -> None:
    log = await world.site.run("deploy", script(world), deployment_environment="prod")
    first, second, last = log.splitlines()
    assert (f"{first}\n", f"{second}\n") == (PAGE, PAGE)
    token = last.removeprefix("backwards ")[::-1]
    assert await world.open_to(token) == (200, 401), "whoever only knows keys takes it until its end"


async def test_a_token_for_another_audience_or_environment_is_refused(world: World) -> None:
    other = await world.site.run("other", script(world, OTHER), deployment_environment="prod")
    staging = await world.site.run("staging", script(world), deployment_environment="staging")
    for log in (other, staging):
        assert [line.startswith("refused 4") for line in log.splitlines()[:2]] == [True, True], log


async def test_the_same_token_with_one_thing_wrong_is_refused(world: World) -> None:
    forge = world.forge
    good = forge.claims(AUDIENCE, environment="prod")
    now = good["iat"]
    assert await world.open_to(forge.sign(good)) == (200, 401), "of no job that lives"
    wrong = {
        "another key": forge.sign(good, key=forge.stranger),
        "an unknown key": forge.sign(good, key=forge.stranger, kid="unknown"),
        "expired": forge.sign(good | {"iat": now - 400, "nbf": now - 400, "exp": now - 100}),
        "another audience": forge.sign(good | {"aud": OTHER}),
        "another issuer": forge.sign(good | {"iss": "https://elsewhere.example"}),
        "another environment": forge.sign(good | {"environment": "staging"}),
        "no signature": forge.unsigned(good),
        "changed after signing": forge.tampered(good, "environment"),
    }
    let_in = {name: await world.open_to(token) for name, token in wrong.items()}
    assert {name: codes for name, codes in let_in.items() if 200 in codes} == {}
