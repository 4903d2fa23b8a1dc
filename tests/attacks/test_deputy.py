"""T2, T10: even where policy was loosened, the trust map gives an audience and a role to exactly whom it names."""

from __future__ import annotations

import json
from pathlib import Path

import aiohttp
import jwt
import pytest
from issuer import ISSUER
from site_under_attack import CACHE, LOOSE, PROD, STAGING

pytestmark = [pytest.mark.attack, pytest.mark.sandbox]

MAP = {
    "staging": f"""trust_map: 1
environment: staging
targets:
  staging: {{kind: oidc, audience: "{STAGING}", session_seconds: 900}}
grants:
  - name: app-deploys
    when:
      caller_issuer: {{equals: "{ISSUER}"}}
      repository_id: {{equals: "42"}}
      fork: {{equals: "false"}}
      ref: {{matches: "refs/heads/**"}}
    target: staging
    roles: [staging-deployer]
    max_ttl_seconds: 120
""",
    "prod": f"""trust_map: 1
environment: prod
issuer: prod
protected: true
stricter_than: staging
targets:
  prod: {{kind: oidc, audience: "{PROD}", session_seconds: 900}}
grants:
  - name: app-deploys
    when:
      caller_issuer: {{equals: "{ISSUER}"}}
      repository_id: {{equals: "42"}}
      fork: {{equals: "false"}}
      ref: {{equals: "refs/heads/main"}}
      ref_protected: {{equals: "true"}}
      trust_tier: {{equals: protected}}
    target: prod
    roles: [prod-deployer]
    max_ttl_seconds: 60
""",
}


@pytest.fixture
async def mapped(build, tmp_path: Path):
    """A site whose policy lets everything through, and a trust map."""
    folder = tmp_path / "trust"
    folder.mkdir()
    for name, text in MAP.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    audiences = {STAGING: {}, PROD: {}, CACHE: {}}
    identity = {"audiences": audiences, "issuers": {"prod": {"audiences": [PROD]}}, "trust_maps": [str(folder)]}
    site = build(rules=LOOSE, identity=identity)
    await site.installation.start()
    return site


async def ask(site, token: str, key: str, audience: str, role: str = "", **more) -> tuple[dict, str]:
    """A job that asks for one token; its view, and the token if it got one."""
    words = f"--audience {audience}" + (f" --role {role}" if role else "")
    script = f'orchestrator-token {words} > t && visit secret-$(od -An -v -tx1 t | tr -d " \\n")\nvisit done'
    answer = await site.dispatch_as(token, key, script=script, **({"pool": "release"} | more))
    assert answer.status == 202, answer
    view = await site.installation.finished(answer.body["id"])
    *secret, done = site.witness.words(answer.body["id"])
    assert done == "done"
    return view, bytes.fromhex(secret[0].removeprefix("secret-")).decode().strip() if secret else ""


async def test_only_whom_the_map_names_gets_a_token(mapped, platform, failed):
    site = mapped
    view, token = await ask(
        site, platform.token(), "rightful", PROD, deployment_environment="prod", claimed={"repository": "x"}
    )
    assert token, view["token_refusals"]
    rightful = jwt.decode(token, options={"verify_signature": False})
    assert rightful["role"] == "prod-deployer"
    assert rightful["exp"] - rightful["iat"] <= 60

    other = {"repository": "mallory/app"}
    tries = {
        "a fork of it": (platform.token("acme/app-fork", fork="true"), {}),
        "another repository": (platform.token(**other), {}),
        "another repository that took its name": (
            platform.token(repository_id="667", repository="acme/app", sub="repo:acme/app"),
            {},
        ),
        "an unprotected branch": (platform.token(ref_protected="false"), {}),
        "another branch": (platform.token(ref="refs/heads/main/../feature"), {}),
        "a pool of lower trust": (platform.token(), {"pool": "default"}),
        "a job for staging": (platform.token(), {"deployment_environment": "staging"}),
        "a job that deploys nowhere": (platform.token(), {"deployment_environment": ""}),
        "a role that is not listed": (platform.token(), {"role": "admin"}),
        "staging's role": (platform.token(), {"role": "staging-deployer"}),
    }
    reasons = {}
    for name, (caller, more) in tries.items():
        given = {"deployment_environment": "prod"} | more
        view, token = await ask(site, caller, name.replace(" ", "-"), PROD, given.pop("role", ""), **given)
        assert token == "", name
        (refusal,) = view["token_refusals"]
        reasons[name] = refusal["reason"]
        assert refusal["reason"].startswith(("trust_", "role_")), (name, refusal)
    assert reasons["a role that is not listed"] == "role_not_mapped"
    failed(
        "T10",
        f"ask for prod's token without being who the map names: {', '.join(tries)}",
        stopped_by="the trust map, a second lock behind policy",
        seen_by=", ".join(f"`{reason}`" for reason in sorted(set(reasons.values()))) + " with rule and claim",
    )
    failed(
        "T19",
        "loosen the policy until it allows everything",
        stopped_by="policy and trust map both have to allow; neither can widen the other",
        seen_by="the map's refusals, and `orchestrator trust explain JOB AUDIENCE`",
    )


async def test_stagings_tokens_are_nothing_to_prod(mapped, platform, failed):
    site = mapped
    _, staging = await ask(site, platform.token(), "to-staging", STAGING, deployment_environment="staging")
    _, prod = await ask(site, platform.token(), "to-prod", PROD, deployment_environment="prod")
    keys = {}
    async with aiohttp.ClientSession() as session:
        for name, issuer in {"staging": site.installation.url, "prod": f"{site.installation.url}/issuers/prod"}.items():
            async with session.get(f"{issuer}/.well-known/openid-configuration") as answer:
                document = await answer.json()
            assert document["issuer"] == issuer
            async with session.get(document["jwks_uri"]) as answer:
                keys[name] = jwt.PyJWKSet.from_dict(await answer.json())
    verified = jwt.decode(
        prod, keys["prod"][jwt.get_unverified_header(prod)["kid"]].key, algorithms=["RS256"], audience=PROD,
        issuer=f"{site.installation.url}/issuers/prod",
    )  # fmt: skip
    assert verified["environment"] == "prod"
    assert jwt.get_unverified_header(staging)["kid"] not in {key.key_id for key in keys["prod"].keys}
    with pytest.raises(KeyError):
        keys["prod"][jwt.get_unverified_header(staging)["kid"]]
    failed(
        "T2",
        "show prod a token of staging",
        stopped_by="an issuer of its own for prod: another `iss`, other keys",
        seen_by="prod's key set does not know the key",
    )
    explained = await site.installation.command("trust", "explain", (await _job(site)), PROD, "--json")
    assert "prod/app-deploys" in json.dumps(json.loads(explained.out)), explained


async def _job(site) -> str:
    listed = await site.installation.call("GET", "/v1/jobs")
    return str(listed.body["jobs"][0]["id"])
