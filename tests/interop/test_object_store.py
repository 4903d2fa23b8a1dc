"""Jobs use a real object store with nothing but their identity, and nobody else does."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from daemon_site import Site, marked
from forge import Forge
from interop import PYTHON, needs
from object_store import ADMIN, HOST, PROVIDER, ObjectStore

from orchestrator.errors import TryAgainError
from orchestrator.evidence.audit.anchor_s3 import ObjectStoreAnchor, object_key
from orchestrator.evidence.audit.checkpoint import sign_checkpoint
from orchestrator.evidence.audit.note import NoteKey

pytestmark = [needs("python"), pytest.mark.sandbox, pytest.mark.asyncio(loop_scope="module")]

AUDIENCE, OTHER = "sts.amazonaws.com", "https://other.example"
ACCOUNT = "arn:aws:iam::123456789012:role"
RELEASE, STAGING = f"{ACCOUNT}/app-release", f"{ACCOUNT}/app-staging"

S3 = """
import json, sys
import boto3
from botocore.exceptions import ClientError
store = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
def code(call, **arguments):
    try:
        getattr(store, call)(**arguments)
        return "done"
    except ClientError as error:
        return error.response["Error"]["Code"]
print("S3", json.dumps({
    "write": code("put_object", Bucket="releases", Key="acme/shop/app", Body=b"built"),
    "write elsewhere in it": code("put_object", Bucket="releases", Key="acme/other/app", Body=b"built"),
    "read": code("get_object", Bucket="releases", Key="acme/shop/app"),
    "another bucket": code("put_object", Bucket="private", Key="app", Body=b"built"),
}))
"""
WRITE_S3 = f"cat > s3.py <<'EOF'\n{S3}EOF\n"
RIGHTS = {
    "write": "done",
    "write elsewhere in it": "AccessDenied",
    "read": "AccessDenied",
    "another bucket": "AccessDenied",
}
ADMIN_SETS_UP = """
import boto3, sys
store = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
for name in sys.argv[2:]:
    store.create_bucket(Bucket=name)
"""


def trust(condition: dict[str, str]) -> dict[str, Any]:
    statement = {
        "Effect": "Allow",
        "Principal": {"Federated": PROVIDER},
        "Action": ["sts:AssumeRoleWithWebIdentity"],
        "Condition": {"StringEquals": {"oidc:aud": AUDIENCE} | condition},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def allowed(action: str, resource: str) -> dict[str, Any]:
    return {"Effect": "Allow", "Action": [action], "Resource": [f"arn:aws:s3:::{resource}"]}


ROLES = {
    # Who may have it is said by our claims; what it may touch as well: the repository is one of them.
    "app-release": (
        trust({"oidc:environment": "prod", "oidc:repository_id": "42", "oidc:role": RELEASE}),
        [allowed("s3:PutObject", "releases/${jwt:repository}/*")],
    ),
    "app-staging": (trust({"oidc:environment": "staging"}), [allowed("s3:GetObject", "releases/*")]),
}


def document(environment: str, role: str) -> dict[str, Any]:
    when = {"repository_id": {"equals": "42"}, "ref_protected": {"equals": "true"}}
    return {
        "trust_map": 1,
        "environment": environment,
        "targets": {
            "store": {"kind": "aws", "audience": AUDIENCE, "session_seconds": 900},
            "other": {"kind": "oidc", "audience": OTHER},
        },
        "grants": [
            {"name": "app-store", "when": when, "target": "store", "max_ttl_seconds": 300, "roles": [role]},
            {"name": "app-other", "when": when, "target": "other", "max_ttl_seconds": 300},
        ],
    }


class World:
    def __init__(self, site: Site, store: ObjectStore) -> None:
        self.site, self.store, self.forge = site, store, Forge(site)
        self.endpoint = f"http://{HOST}:{store.port}"
        self.reach = f"--endpoint {self.endpoint} --allow-http"

    async def assume(self, token: str, role: str = RELEASE) -> str:
        return await asyncio.to_thread(self.store.assume, token, role)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("store")
    documents = [document("prod", RELEASE), document("staging", STAGING)]
    site = Site(folder / "site", audiences={AUDIENCE: {}, OTHER: {}}, trust_maps=documents)
    store = ObjectStore(folder / "seaweedfs", site.issuer, AUDIENCE, ROLES)
    try:
        site.configure((HOST, "127.0.0.1", store.port, "http"))
        await asyncio.gather(site.here.start(), store.ready())
        await asyncio.to_thread(as_admin, store, "releases", "private")
        yield World(site, store)
    finally:
        store.end()
        await site.here.close()
    assert await site.here.left() == []


def as_admin(store: ObjectStore, *buckets: str) -> None:
    environment = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
    subprocess.run([PYTHON, "-c", ADMIN_SETS_UP, store.url, *buckets], env=environment, check=True, timeout=60)


async def test_a_credential_process_gets_a_role_and_its_rights_are_enforced(world: World) -> None:
    """Through the gateway, with an unchanged library. What comes back lives as short as AWS allows."""
    script = f"""{WRITE_S3}
orchestrator-token aws --role {RELEASE} {world.reach} > credentials.json
{PYTHON} -c 'import json; print("KEYS", json.dumps(sorted(json.load(open("credentials.json")))))'
mkdir .aws
printf '[default]\\ncredential_process = %s\\n' "$(command -v orchestrator-token) aws --role {RELEASE} {world.reach}" \\
    > .aws/config
{PYTHON} s3.py {world.endpoint}
"""
    log = await world.site.run("process", script, deployment_environment="prod")
    assert marked(log, "KEYS") == ["AccessKeyId", "Expiration", "SecretAccessKey", "SessionToken", "Version"]
    assert marked(log, "S3") == RIGHTS


async def test_the_library_asks_by_itself_with_the_variables(world: World) -> None:
    script = f"""{WRITE_S3}
eval "$(orchestrator-token env aws --role {RELEASE})"
export AWS_ENDPOINT_URL_STS={world.endpoint} AWS_REGION=us-east-1
{PYTHON} s3.py {world.endpoint}
"""
    assert marked(await world.site.run("variables", script, deployment_environment="prod"), "S3") == RIGHTS


async def test_a_job_of_staging_gets_the_role_of_staging_and_no_other(world: World) -> None:
    script = f"""
! orchestrator-token aws --role {RELEASE} {world.reach} 2> refused-here
cat refused-here
! orchestrator-token aws --role {RELEASE} --unmapped {world.reach} 2> refused-there
cat refused-there
orchestrator-token aws {world.reach} > credentials.json && echo its own role
"""
    log = await world.site.run("staging", script, deployment_environment="staging")
    assert "role_not_mapped" in log
    assert f"{HOST}:{world.store.port} answered 403: AccessDenied" in log
    assert "its own role" in log


async def test_a_job_of_another_repository_gets_no_token_at_all(world: World) -> None:
    script = f"orchestrator-token aws --role {RELEASE} {world.reach}"
    other = {"repository_id": "43"}
    log = await world.site.run("other", script, result="failure", deployment_environment="prod", claims=other)
    assert "trust_no_grant" in log


async def test_a_token_for_somebody_else_is_refused(world: World) -> None:
    script = f"! orchestrator-token aws --audience {OTHER} --role {RELEASE} --unmapped {world.reach} 2>&1"
    log = await world.site.run("audience", script, deployment_environment="prod")
    assert "AccessDenied" in log


async def test_the_same_token_with_one_thing_wrong_is_refused(world: World) -> None:
    """Signed by the daemon's own key, but for those whose key is wrong: nothing else tells them from a good one."""
    forge = world.forge
    good = forge.claims(AUDIENCE, environment="prod", repository_id="42", role=RELEASE, repository="acme/shop")
    now = good["iat"]
    assert await world.assume(forge.sign(good)) == ""
    refused = {
        "another key": await world.assume(forge.sign(good, key=forge.stranger)),
        "an unknown key": await world.assume(forge.sign(good, key=forge.stranger, kid="unknown")),
        "expired": await world.assume(forge.sign(good | {"iat": now - 400, "nbf": now - 400, "exp": now - 100})),
        "not yet valid": await world.assume(forge.sign(good | {"nbf": now + 100})),
        "another audience": await world.assume(forge.sign(good | {"aud": OTHER})),
        "another issuer": await world.assume(forge.sign(good | {"iss": "https://elsewhere.example"})),
        "another environment": await world.assume(forge.sign(good | {"environment": "staging"})),
        "another repository": await world.assume(forge.sign(good | {"repository_id": "43"})),
        "no signature": await world.assume(forge.unsigned(good)),
        "changed after signing": await world.assume(forge.tampered(good, "repository_id")),
    }
    assert {name: code for name, code in refused.items() if not code} == {}
    assert refused["another key"] == refused["not yet valid"] == "InvalidParameterValue"
    assert refused["expired"] == "ExpiredTokenException"


async def test_what_was_given_is_on_the_jobs_record(world: World) -> None:
    """With the latest moment at which the session can still live: AWS takes a token five minutes after its end."""
    script = f"orchestrator-token aws {world.reach} > /dev/null"
    job_id = await world.site.submit("record", script, deployment_environment="prod")
    view = await world.site.here.finished(job_id)
    (token,) = view["tokens"]
    assert (token["audience"], token["role"], token["rule"]) == (AUDIENCE, RELEASE, "prod/app-store")
    assert "eyJ" not in json.dumps(view)


async def test_checkpoints_of_the_audit_log_are_kept_by_the_store(world: World, tmp_path: Path) -> None:
    """With credentials that may do no more than put, and with wrong ones they are not."""
    checkpoint = sign_checkpoint(NoteKey.generate("runners.example/audit"), 7, b"r" * 32)
    session = await credentials(world, tmp_path / "credentials")
    anchor = ObjectStoreAnchor(f"{world.store.url}/releases/acme/shop", "us-east-1", session)
    try:
        await anchor.put(checkpoint)
        await anchor.put(checkpoint)
    finally:
        await anchor.close()
    key = f"acme/shop/{object_key(checkpoint)}"
    assert await asyncio.to_thread(as_admin_reads, world.store, "releases", key) == checkpoint.note
    elsewhere = ObjectStoreAnchor(f"{world.store.url}/private", "us-east-1", session)
    text = session.read_text()
    wrong_file = tmp_path / "wrong"
    wrong_file.touch(mode=0o600)
    secret = text.split("aws_secret_access_key = ")[1].split()[0]
    wrong_file.write_text(text.replace(secret, "another"))
    wrong = ObjectStoreAnchor(f"{world.store.url}/releases/acme/shop", "us-east-1", wrong_file)
    for refused in (elsewhere, wrong):
        try:
            with pytest.raises(TryAgainError) as error:
                await refused.put(checkpoint)
            assert error.value.reason == "anchor_refused"
        finally:
            await refused.close()


async def credentials(world: World, file: Path) -> Path:
    """Of a session, in the form that AWS's tools share."""
    claims = world.forge.claims(AUDIENCE, environment="prod", repository_id="42", role=RELEASE, repository="acme/shop")
    answer = await asyncio.to_thread(world.store.session, world.forge.sign(claims), RELEASE)
    names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey",
             "aws_session_token": "SessionToken"}  # fmt: skip
    file.touch(mode=0o600)
    file.write_text("[default]\n" + "".join(f"{name} = {answer[field]}\n" for name, field in names.items()))
    return file


ADMIN_READS = """
import boto3, sys
store = boto3.client("s3", endpoint_url=sys.argv[1], region_name="us-east-1")
print(store.get_object(Bucket=sys.argv[2], Key=sys.argv[3])["Body"].read().decode(), end="")
"""


def as_admin_reads(store: ObjectStore, bucket: str, key: str) -> str:
    environment = {"AWS_ACCESS_KEY_ID": ADMIN[0], "AWS_SECRET_ACCESS_KEY": ADMIN[1]}
    done = subprocess.run([PYTHON, "-c", ADMIN_READS, store.url, bucket, key], env=environment, check=True, timeout=60,
                          capture_output=True, text=True)  # fmt: skip
    return done.stdout
