"""docs/how-to/use-clouds.md: its trust map is in force, its recipes are all that the clouds know, its jobs run."""

from __future__ import annotations

import json
import shlex
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
import yaml
from cloud_front import ADDRESS, HOSTS, ISSUER, PORT, CloudFront
from daemon_site import Site
from interop import PYTHON, ROOT, needs
from page import blocks, trust_map

pytestmark = [needs("python"), pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

KUBECTL = ROOT / ".venv/bin/kubectl"

DEPLOYS = {
    "aws": "import boto3; print(boto3.client('sts').get_caller_identity()['Arn'])",
    "gcp": "import google.auth, google.auth.transport.requests as transport\n"
    "found, _ = google.auth.default(scopes=['https://www.googleapis.com/auth/cloud-platform'])\n"
    "found.refresh(transport.Request()); print(found.token)",
    "azure": "import azure.identity as identity\n"
    "print(identity.WorkloadIdentityCredential().get_token('https://vault.azure.net/.default').token)",
    "vault": "import os, urllib.request as web\n"
    "ask = web.Request(os.environ['VAULT_ADDR'] + '/v1/auth/token/revoke-self', method='POST',\n"
    "    headers={'X-Vault-Token': os.environ['VAULT_TOKEN']})\n"
    "print(os.environ['VAULT_TOKEN'], web.urlopen(ask, timeout=20).status)",
    "file": "import os; print(oct(os.stat('token').st_mode)[-3:], open('token').read().count('.'))",
    "": "",
}


class World:
    def __init__(self, site: Site, front: CloudFront) -> None:
        self.site, self.front = site, front

    async def run(self, name: str, block: str, deploy: str = "", more: str = "") -> str:
        """What a job printed that runs this block of the page, with `./deploy` as given."""
        script = f"""printf %s "$CA" > ca.pem
export SSL_CERT_FILE=$PWD/ca.pem REQUESTS_CA_BUNDLE=$PWD/ca.pem AWS_CA_BUNDLE=$PWD/ca.pem
export PATH="$PATH:{KUBECTL.resolve().parent}"
printf '#!%s\\n%s\\n' {PYTHON} {shlex.quote(deploy)} > deploy
chmod +x deploy
{block}
{more}
"""
        environment = {"CA": self.front.ca_pem}
        return await self.site.run(name, script, deployment_environment="prod", environment=environment)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("page")
    document = trust_map()
    audiences: dict[str, Any] = {target["audience"]: {} for target in document["targets"].values()}
    site = Site(folder / "site", audiences=audiences, trust_maps=[document], public_url=ISSUER,
                tools=[str(KUBECTL.resolve().parent)])  # fmt: skip
    site.configure(*((host, ADDRESS, PORT, "tls") for host in HOSTS))
    try:
        async with CloudFront(folder, site.url) as front:
            await site.here.start()
            front.learn(await recipes(site))
            yield World(site, front)
    except PermissionError:
        pytest.skip("NOT TESTED: nobody but root may listen at port 443 here (net.ipv4.ip_unprivileged_port_start)")
    finally:
        await site.here.close()
    assert await site.here.left() == []


async def recipes(site: Site) -> dict[str, Any]:
    """By the page's own commands: the first file of each grant's recipe."""
    (text,) = blocks("sh", "2. Tell the cloud", "3. In the job")
    found: dict[str, Any] = {}
    for line in text.splitlines():
        words = shlex.split(line.partition(" > ")[0])[1:]
        words[words.index("trust/")] = str(site.here.folder / "trust")
        plain = await site.here.command(*words)
        assert plain.code == 0, plain.err
        assert plain.out
        if "--part" not in words:
            parts = json.loads((await site.here.command(*words, "--json")).out)["parts"]
            part = next(one for one in parts if one["language"] in ("json", "yaml"))
            found[words[2].rpartition("-")[2]] = yaml.safe_load(part["text"])
        else:
            assert json.loads(plain.out)["Version"] == "2012-10-17"
    return found


async def test_every_block_of_the_page_is_run(world: World) -> None:
    jobs = blocks("sh", "3. In the job", "4. A certificate from step-ca")
    kinds = ["aws", "aws", "gcp", "azure", "vault", "", "", "file"]
    assert len(jobs) == len(kinds)
    said = []
    for number, (block, kind) in enumerate(zip(jobs, kinds, strict=True)):
        more = "cat token" if "rfc8693" in block else ""
        said.append(await world.run(f"page-{number}", block, DEPLOYS[kind], more))
    variables, process, google, azure, vault, kubectl, partner, file = (text.strip() for text in said)
    for arn in (variables, process):
        assert arn.startswith("arn:aws:sts::123456789012:assumed-role/app-release/dispatch.")
    assert world.front.google.accounts[google] == "release@shop-prod.iam.gserviceaccount.com"
    assert world.front.entra.given[azure] == "11111111-2222-3333-4444-555555555555"
    assert vault.endswith(" 204")
    assert world.front.vault.tokens == {}
    assert json.loads(kubectl)["gitVersion"] == "v1.37.0"
    ((user, groups),) = set(map(_hashable, world.front.cluster.users))
    assert (user.startswith("runner:from:"), groups) == (True, ("deployers",))
    assert world.front.partner.given[partner] == ("https://api.partner.example", "upload")
    assert file == "600 2"


def _hashable(user: tuple[str, list[str]]) -> tuple[str, tuple[str, ...]]:
    return user[0], tuple(user[1])
