"""The clouds' own libraries, unchanged, in jobs whose only credential is their identity.

The clouds are servers that keep to their references and verify our tokens as strangers do. What they trust is what
`orchestrator trust recipe` printed for the grants of the trust map.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from cloud_front import ADDRESS, HOSTS, ISSUER, PORT, CloudFront
from daemon_site import Site
from forge import Forge
from interop import PYTHON, needs
from platform_tokens import ISSUER as CI

pytestmark = [needs("python"), pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

ROLE = "arn:aws:iam::123456789012:role/app-release"
POOL = "projects/123456789012/locations/global/workloadIdentityPools/runners"
PROVIDER = f"{POOL}/providers/prod"
ACCOUNT = "release@shop-prod.iam.gserviceaccount.com"
CLIENT = "11111111-2222-3333-4444-555555555555"
AWS, GOOGLE, ENTRA, VAULT = (
    *("sts.amazonaws.com", f"https://iam.googleapis.com/{PROVIDER}", "api://AzureADTokenExchange"),
    "https://vault.example",
)
WHEN = {
    "caller_issuer": {"equals": CI},
    "repository": {"equals": "acme/shop"},
    "repository_id": {"equals": "42"},
    "repository_owner_id": {"equals": "1"},
    "ref": {"matches": "refs/heads/release/*"},
    "ref_protected": {"equals": "true"},
    "trust_tier": {"equals": "protected"},
}
TRUST_MAP = {
    "trust_map": 1,
    "environment": "prod",
    "protected": True,
    "targets": {
        "aws": {"kind": "aws", "audience": AWS, "session_seconds": 900},
        "gcp": {"kind": "gcp", "audience": GOOGLE},
        "azure": {"kind": "azure", "audience": ENTRA},
        "vault": {"kind": "vault", "audience": VAULT, "session_seconds": 300},
    },
    "grants": [
        {"name": f"app-{target}", "when": WHEN, "target": target, "roles": [role], "max_ttl_seconds": 300} | more
        for target, role, more in (
            ("aws", ROLE, {"session_tags": {"repository": {"claim": "repository"}, "stage": {"value": "prod"}}}),
            ("gcp", ACCOUNT, {}),
            ("azure", CLIENT, {}),
            ("vault", "app-release", {}),
        )
    ],
}
TRUST_CA = """printf %s "$CA" > ca.pem
export SSL_CERT_FILE=$PWD/ca.pem REQUESTS_CA_BUNDLE=$PWD/ca.pem AWS_CA_BUNDLE=$PWD/ca.pem
"""


class World:
    def __init__(self, site: Site, front: CloudFront, recipes: dict[str, Any]) -> None:
        self.site, self.front, self.recipes = site, front, recipes
        self.forge = Forge(site)

    async def run(self, name: str, script: str, **more: Any) -> str:
        more = {"deployment_environment": "prod", "environment": {"CA": self.front.ca_pem}} | more
        return await self.site.run(name, TRUST_CA + script, **more)

    def claims(self, audience: str, target: str, role: str, **more: Any) -> dict[str, Any]:
        """Those of a token that a job with the grant could have."""
        facts = {name: condition["equals"] for name, condition in WHEN.items() if "equals" in condition}
        said = facts | {"ref": "refs/heads/release/1.4", "environment": "prod", "trust_rule": f"prod/app-{target}"}
        own = {"role": role, "job_id": "dispatch.forged.1", "sub": self.recipes["subject"]}
        return self.forge.claims(audience, **said | own | more)

    async def post(self, url: str, *, form: dict[str, str] | None = None, body: Any = None) -> tuple[int, str]:
        async with self.front.session.post(url, data=form, json=body) as answer:
            return answer.status, await answer.text()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("clouds")
    site = Site(folder / "site", audiences={AWS: {}, GOOGLE: {}, ENTRA: {}, VAULT: {}}, trust_maps=[TRUST_MAP],
                public_url=ISSUER)  # fmt: skip
    site.configure(*((host, ADDRESS, PORT, "tls") for host in HOSTS))
    try:
        async with CloudFront(folder, site.url) as front:
            await site.here.start()
            yield World(site, front, await set_up(site, front))
    except PermissionError:
        pytest.skip("NOT TESTED: nobody but root may listen at port 443 here (net.ipv4.ip_unprivileged_port_start)")
    finally:
        await site.here.close()
    assert await site.here.left() == []


async def set_up(site: Site, front: CloudFront) -> dict[str, Any]:
    """Tell each cloud what its recipe says, and nothing else."""
    found = {}
    for target in ("aws", "gcp", "azure", "vault"):
        maps = str(site.here.folder / "trust")
        done = await site.here.command("trust", "recipe", f"prod/app-{target}", maps, "--url", ISSUER, "--json")
        assert done.code == 0, done.err
        parts = json.loads(done.out)["parts"]
        found[target] = next(json.loads(part["text"]) for part in parts if part["language"] == "json")
    front.learn(found)
    return found | {"subject": found["azure"]["subject"]}


async def test_boto3_by_a_credential_process_and_by_the_variables(world: World) -> None:
    """The session is named for the job, and has the tags of the grant."""
    script = f"""
cat > who.py <<'EOF'
import boto3
print(boto3.client("sts").get_caller_identity()["Arn"])
EOF
export AWS_REGION=eu-central-1
mkdir .aws
printf '[default]\\ncredential_process = %s\\n' "$(command -v orchestrator-token) aws --role {ROLE}" > .aws/config
echo process $({PYTHON} who.py)
rm -r .aws
eval "$(orchestrator-token env aws)"
echo variables $({PYTHON} who.py)
echo job $ORCHESTRATOR_JOB_ID
"""
    log = dict(line.split(" ", 1) for line in (await world.run("boto3", script)).splitlines())
    arn = f"arn:aws:sts::123456789012:assumed-role/app-release/{log['job']}"
    assert (log["process"], log["variables"]) == (arn, arn)
    assert {json.dumps(session.tags) for session in world.front.aws.sessions.values()} == {
        json.dumps({"repository": "acme/shop", "stage": "prod"})
    }


async def test_google_auth_by_an_executable_and_by_a_file(world: World) -> None:
    script = f"""
cat > who.py <<'EOF'
import google.auth, google.auth.transport.requests
found, _ = google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])
found.refresh(google.auth.transport.requests.Request())
print("token", found.token)
EOF
export GOOGLE_CLOUD_PROJECT=shop-prod  # else the library asks Google for it, which is one more host
eval "$(orchestrator-token env gcp --provider {PROVIDER} --service-account {ACCOUNT} --role {ACCOUNT})"
{PYTHON} who.py
orchestrator-token gcp --provider {PROVIDER} --service-account {ACCOUNT} --token-file token --watch > account.json
unset GOOGLE_EXTERNAL_ACCOUNT_ALLOW_EXECUTABLES
GOOGLE_APPLICATION_CREDENTIALS=$PWD/account.json {PYTHON} who.py
"""
    log = await world.run("google", script)
    tokens = [line.removeprefix("token ") for line in log.splitlines()]
    assert [world.front.google.accounts.get(token) for token in tokens] == [ACCOUNT, ACCOUNT]


async def test_azure_identity_by_the_variables(world: World) -> None:
    script = f"""
cat > who.py <<'EOF'
from azure.identity import DefaultAzureCredential, WorkloadIdentityCredential
for kind in (WorkloadIdentityCredential, DefaultAzureCredential):
    print("token", kind().get_token("https://vault.azure.net/.default").token)
EOF
eval "$(orchestrator-token env azure --client-id {CLIENT} --tenant-id {world.front.entra.tenant})"
{PYTHON} who.py
"""
    log = await world.run("azure", script)
    tokens = [line.removeprefix("token ") for line in log.splitlines() if line.startswith("token ")]
    assert [world.front.entra.given.get(token) for token in tokens] == [CLIENT, CLIENT]


async def test_a_login_at_vault_that_ends_with_the_job(world: World) -> None:
    script = """
export VAULT_ADDR=https://vault.example
VAULT_TOKEN=$(orchestrator-token vault --audience https://vault.example --role app-release)
echo "token $VAULT_TOKEN"
"""
    log = await world.run("vault", script)
    token = log.split()[1]
    assert world.front.vault.tokens[token]["trust_rule"] == "prod/app-vault"


async def test_what_passes_is_waited_for(world: World) -> None:
    """AWS cannot reach our keys, or has too much to do; then it can."""
    world.front.aws.busy = 1
    world.front.party.unreachable = 1
    world.front.party._keys.clear()
    log = await world.run("faults", f"orchestrator-token aws --role {ROLE} --region eu-central-1 > a && echo there")
    assert log == "there\n"
    assert (world.front.aws.busy, world.front.party.unreachable) == (0, 0)


async def test_a_new_credential_of_entra_needs_its_time(world: World) -> None:
    """AADSTS70021 until every part of Entra knows it; the file with our token is good for the next try."""
    world.front.entra.spreading = 1
    script = f"""
cat > who.py <<'EOF'
from azure.identity import WorkloadIdentityCredential
print("token", WorkloadIdentityCredential().get_token("https://vault.azure.net/.default").token)
EOF
eval "$(orchestrator-token env azure --client-id {CLIENT} --tenant-id {world.front.entra.tenant})"
{PYTHON} who.py 2> first || {PYTHON} who.py
grep -o AADSTS70021 first | sort -u
"""
    token, code = (await world.run("spreading", script)).splitlines()
    assert world.front.entra.given[token.removeprefix("token ")] == CLIENT
    assert code == "AADSTS70021"


async def test_what_does_not_pass_is_told(world: World) -> None:
    world.front.vault.sealed = True
    try:
        script = "! orchestrator-token vault --audience https://vault.example --address https://vault.example 2>&1"
        assert "vault.example answered 503: Vault is sealed" in await world.run("sealed", script)
    finally:
        world.front.vault.sealed = False


@pytest.mark.parametrize(
    ("name", "claims", "told"),
    [
        ("ref", {"ref": "refs/heads/main"}, "trust_claim_mismatch"),
        ("unprotected", {"ref_protected": "false"}, "trust_claim_mismatch"),
        ("repository", {"repository_id": "43"}, "trust_no_grant"),
    ],
)
async def test_a_job_that_no_grant_is_for_never_reaches_a_cloud(world: World, name, claims, told) -> None:
    before = len(world.front.aws.sessions)
    script = "! orchestrator-token aws --region eu-central-1 2>&1"
    assert told in await world.run(f"refused-{name}", script, claims=claims)
    assert len(world.front.aws.sessions) == before


WRONG = {
    "another key": ({}, "stranger"),
    "expired": ({"exp": -3600, "iat": -4000, "nbf": -4000}, "own"),
    "not yet valid": ({"nbf": 3000, "iat": 3000, "exp": 3600}, "own"),
    "another audience": ({"aud": "https://elsewhere.example"}, "own"),
    "another issuer": ({"iss": "https://elsewhere.example"}, "own"),
    "another subject": ({"sub": "from:0000000000:repo:acme@1/shop@43:environment:prod"}, "own"),
    "another environment": ({"environment": "staging", "sub": "x:environment:staging"}, "own"),
}


def forged(world: World, name: str, good: dict[str, Any]) -> str:
    changes, key = WRONG[name]
    now = good["iat"]
    more = {claim: now + value if claim in ("exp", "iat", "nbf") else value for claim, value in changes.items()}
    return world.forge.sign(good | more, key=world.forge.stranger if key == "stranger" else None)


async def test_aws_refuses_each_token_with_one_thing_wrong(world: World) -> None:
    def form(token: str) -> dict[str, str]:
        return {"Action": "AssumeRoleWithWebIdentity", "Version": "2011-06-15", "RoleArn": ROLE,
                "RoleSessionName": "forged", "WebIdentityToken": token}  # fmt: skip

    tags = {"https://aws.amazon.com/tags": {"principal_tags": {"repository": ["acme/shop"], "stage": ["prod"]}}}
    good = world.claims(AWS, "aws", ROLE) | tags
    url = "https://sts.eu-central-1.amazonaws.com/"
    assert (await world.post(url, form=form(world.forge.sign(good))))[0] == 200
    for name in WRONG:
        status, text = await world.post(url, form=form(forged(world, name, good)))
        assert status in (400, 403), (name, text)
    other_tag = {"https://aws.amazon.com/tags": {"principal_tags": {"repository": ["acme/other"], "stage": ["prod"]}}}
    for name, changed in {
        "another repository's tag": good | other_tag,
        "no tags": good | {next(iter(tags)): {}},
    }.items():
        status, text = await world.post(url, form=form(world.forge.sign(changed)))
        assert (status, "AccessDenied" in text) == (403, True), name


async def test_google_refuses_each_token_with_one_thing_wrong(world: World) -> None:
    def form(token: str) -> dict[str, str]:
        return {"grant_type": "urn:ietf:params:oauth:grant-type:token-exchange", "subject_token": token,
                "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
                "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
                "audience": f"//iam.googleapis.com/{PROVIDER}"}  # fmt: skip

    good = world.claims(GOOGLE, "gcp", ACCOUNT)
    url = "https://sts.googleapis.com/v1/token"
    assert (await world.post(url, form=form(world.forge.sign(good))))[0] == 200
    others = {name: forged(world, name, good) for name in WRONG if name != "another subject"}
    others |= {
        f"another {claim}": world.forge.sign(good | {claim: "x"}) for claim in (*WHEN, "environment", "trust_rule")
    }
    for name, token in others.items():
        status, text = await world.post(url, form=form(token))
        assert status == 400, (name, text)


async def test_entra_and_vault_refuse_each_token_with_one_thing_wrong(world: World) -> None:
    def form(token: str) -> dict[str, str]:
        return {"grant_type": "client_credentials", "client_id": CLIENT, "scope": "x", "client_assertion": token,
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}  # fmt: skip

    good = world.claims(ENTRA, "azure", CLIENT)
    url = f"https://login.microsoftonline.com/{world.front.entra.tenant}/oauth2/v2.0/token"
    assert (await world.post(url, form=form(world.forge.sign(good))))[0] == 200
    for name in WRONG:
        status, text = await world.post(url, form=form(forged(world, name, good)))
        assert (status, "AADSTS" in text) == (401, True), name
    good = world.claims(VAULT, "vault", "app-release")
    login = "https://vault.example/v1/auth/jwt/login"
    assert (await world.post(login, body={"role": "app-release", "jwt": world.forge.sign(good)}))[0] == 200
    others = {name: forged(world, name, good) for name in WRONG if name != "another subject"}
    others |= {f"another {claim}": world.forge.sign(good | {claim: "x"}) for claim in ("ref", "role", "trust_rule")}
    for name, token in others.items():
        status, text = await world.post(login, body={"role": "app-release", "jwt": token})
        assert status == 400, (name, text)
