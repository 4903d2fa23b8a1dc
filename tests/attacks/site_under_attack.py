"""A daemon as somebody would run it, and what an attacker has of it: jobs, requests, and what he could steal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import yaml
from installation import Answer, Installation
from issuer import Platform
from witness import HOST, PYTHON, Witness

from orchestrator.testing.otlp import OtlpReceiver

STAGING = "https://staging.deploy.example"
PROD = "https://prod.deploy.example"
CACHE = "https://cache.example"
INSIDE = Path(__file__).parent / "inside"

POLICY = """# What the jobs of this suite may: small enough to be read at once, strict enough to be worth attacking.
package orchestrator

default decision := {"allow": false, "reasons": [{"code": "no_rule", "message": "no rule allows this"}]}

reasons contains {"code": "fork_in_trusted_pool", "message": "a fork runs in the pool for untrusted jobs only"} if {
	input.caller.facts.fork == "true"
	input.pool.trust_tier != "untrusted"
}

reasons contains {"code": "untrusted_gets_nothing", "message": "the untrusted get no token and no environment"} if {
	input.pool.trust_tier == "untrusted"
	wants
}

reasons contains {"code": "ref_not_protected", "message": "deployments come from protected refs"} if {
	input.request.deployment_environment != ""
	not input.caller.facts.ref_protected == "true"
}

reasons contains {"code": "pool_not_protected", "message": "prod is deployed from a protected pool"} if {
	input.request.deployment_environment == "prod"
	input.pool.trust_tier != "protected"
}

reasons contains {"code": "audience_elsewhere", "message": "that audience belongs to another environment"} if {
	input.stage == "exchange"
	not input.request.audience in audiences[input.request.deployment_environment]
}

audiences := {"": ["https://cache.example"], "staging": ["https://staging.deploy.example"], "prod": ["https://prod.deploy.example"]}

wants if input.stage == "exchange"

wants if input.request.deployment_environment != ""

known if {
	input.stage in ["admission", "exchange"]
	input.pool.trust_tier in ["untrusted", "standard", "protected"]
	is_string(input.request.deployment_environment)
	is_object(input.caller.facts)
}

decision := {"allow": true} if {
	known
	count(reasons) == 0
}

decision := {"allow": false, "reasons": [reason | some reason in reasons]} if count(reasons) > 0
"""

POLICY_TEST = """package orchestrator_test

import data.orchestrator

plain := {
	"stage": "admission",
	"caller": {"facts": {}},
	"pool": {"trust_tier": "standard"},
	"request": {"deployment_environment": "", "audience": ""},
}

test_plain_job_is_allowed if orchestrator.decision.allow == true with input as plain

test_unknown_stage_is_not if {
	orchestrator.decision.allow == false with input as object.union(plain, {"stage": "other"})
}
"""


LOOSE = POLICY.partition("reasons contains")[0] + "reasons := []\n\n" + "known if {" + POLICY.partition("known if {")[2]
"""The same after somebody has taken every rule out, in good faith."""


def policy_bundle(folder: Path, rules: str = POLICY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "decision.rego").write_text(rules, encoding="utf-8")
    (folder / "decision_test.rego").write_text(POLICY_TEST, encoding="utf-8")
    return folder


class Stolen(NamedTuple):
    """A running job, and the credentials that an accomplice let out of it."""

    job_id: str
    runner_token: str
    id_token: str


class Site:
    """The daemon, by its installation; the ways in that an attacker has."""

    def __init__(
        self, installation: Installation, platform: Platform, witness: Witness, receiver: OtlpReceiver
    ) -> None:
        self.installation = installation
        self.platform = platform
        self.witness = witness
        self.receiver = receiver

    def configure(self, bundle: Path, settings: dict[str, Any]) -> None:
        here = self.installation
        self.bundle = bundle
        sandbox = {"host_uid_base": here.uid_base}
        rules = [self.witness.rule]
        document: dict[str, Any] = {
            "state_dir": str(here.state),
            "server": {"port": here.port},
            "egress": {"names": {HOST: "127.0.0.1"}},
            "telemetry": {"otlp_endpoint": self.receiver.endpoint, "export_interval_seconds": 0.1},
            "policy": {"bundle": str(bundle)},
            "callers": [self.platform.setting],
            "identity": {"audiences": {STAGING: {}, PROD: {}, CACHE: {}}},
            "pools": [
                {"name": "default", "capacity": 4, "egress": rules, "sandbox": sandbox},
                {"name": "forks", "capacity": 4, "trust_tier": "untrusted", "egress": rules, "sandbox": sandbox},
                {"name": "release", "capacity": 4, "trust_tier": "protected", "egress": rules, "sandbox": sandbox},
            ],
        }
        here.config.write_text(yaml.safe_dump(document | settings), encoding="utf-8")

    async def close(self) -> None:
        await self.installation.close()

    # What an attacker does.

    async def play(self, program: str, *arguments: str, name: str = "", **more: Any) -> str:
        """Dispatch a job that runs `inside/PROGRAM`; its id."""
        source = (INSIDE / program).read_text(encoding="utf-8")
        words = " ".join(f"'{word}'" for word in arguments)
        environment = {"PROGRAM": source} | more.pop("environment", {})
        name = name or program.removesuffix(".py")
        body = self.installation.body(name, f'exec "$PYTHON" -I -S -c "$PROGRAM" {words}\n', **more)
        body["environment"] = body["environment"] | environment
        answer = await self.installation.call("POST", "/v1/jobs", body, Idempotency_Key=name)
        assert answer.status in (200, 202), answer
        return str(answer.body["id"])

    async def log(self, job_id: str) -> str:
        """What the job printed so far, as anybody sees it."""
        token = (self.installation.state / "caller-token").read_text(encoding="utf-8")
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"{self.installation.url}/v1/jobs/{job_id}/log", headers={"Authorization": f"Bearer {token}"}
            ) as answer,
        ):
            return await answer.text()

    async def result(self, job_id: str) -> dict[str, Any]:
        """The last line of a finished job's log, which is JSON."""
        view = await self.installation.finished(job_id, 60)
        log = await self.log(job_id)
        assert view["result"] == "success", (view["reason"], log)
        found: dict[str, Any] = json.loads(log.strip().splitlines()[-1])
        return found

    async def dispatch_as(self, token: str, key: str, *, script: str = "visit started\n", **more: Any) -> Answer:
        """A dispatch by whoever has this token."""
        body = self.installation.body("forged", script, **more)
        headers = {"Idempotency-Key": key} | ({"Authorization": f"Bearer {token}"} if token else {})
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.installation.url}/v1/jobs", json=body, headers=headers) as answer,
        ):
            return Answer(answer.status, await answer.json(content_type=None), answer.headers)

    async def victim(self, audience: str = CACHE) -> Stolen:
        """A job that runs until the gate opens, and whose credentials were let out by an accomplice inside."""
        job_id = await self.play("victim.py", audience, name="victim")
        await self.witness.told(job_id, "gate")
        words = self.witness.words(job_id)
        secrets = [word.removeprefix("secret-") for word in words if word.startswith("secret-")]
        assert len(secrets) == 2, words
        return Stolen(job_id, bytes.fromhex(secrets[0]).decode(), bytes.fromhex(secrets[1]).decode())

    async def introspect(self, token: str) -> dict[str, Any]:
        """What a relying party is told of a token (RFC 7662)."""
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.installation.url}/v1/introspect", data={"token": token}) as answer,
        ):
            found: dict[str, Any] = await answer.json()
            return found


def python() -> str:
    """The interpreter inside."""
    return PYTHON
