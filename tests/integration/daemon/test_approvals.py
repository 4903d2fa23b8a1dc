"""What people sign, in the whole daemon: given in by keys and tokens, used by jobs, counted, told and reviewed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from typer.testing import CliRunner

from orchestrator.cli.main import app
from orchestrator.daemon.operations.reload import Reload
from orchestrator.errors import TryAgainError
from orchestrator.evidence.approvals.envelopes import Envelope
from orchestrator.evidence.approvals.statements import SECOND, Predicate, moment, statement_bytes
from orchestrator.model.events import AlarmRaised, ExceptionUsed, JobAdmitted
from orchestrator.testing.approvals import (
    DIGEST,
    IDP,
    approval,
    exception,
    id_of,
    private_pem,
    public_pem,
    review,
    revocation,
    signed,
)

MISSING = "scan_missing"
AUDIENCE = "https://prod.deploy.example"
PERSON_AUDIENCE = "https://ci.example/approvals"
POLICY = """package orchestrator

default decision := {"allow": false, "reasons": [{"code": "scan_missing", "message": "no scan"}]}

decision := {"allow": true} if {
	input.job.source == "dispatch"
	not deploys
}

deploys if input.request.deployment_environment != ""

decision := {"allow": true, "waived": [{"exception": input.exceptions[0].id, "codes": ["scan_missing"]}]} if {
	deploys
	count(input.exceptions) > 0
}
"""
POLICY_TEST = """package orchestrator_test

import data.orchestrator

test_builds if orchestrator.decision.allow with input as {"job": {"source": "dispatch"}}

test_deploys if not orchestrator.decision.allow with input as {"request": {"deployment_environment": "prod"}}
"""
PEOPLE: dict[str, Any] = {
    "alice": {
        "keys": [public_pem("alice")],
        "may": [{"kinds": ["security", "break_glass"], "environments": ["prod"]}],
    },
    "bob": {"keys": [public_pem("bob")], "may": [{"kinds": ["break_glass"], "environments": ["*"]}]},
    "carol": {"keys": [public_pem("carol")]},
    "dave": {
        "identities": [{"issuer": IDP, "subject": "dave@acme"}],
        "may": [{"kinds": ["review", "break_glass"], "environments": ["*"]}],
    },
}
IDP_KEY = ec.generate_private_key(ec.SECP256R1())


def write_people(folder: Path, people: Mapping[str, Any] = PEOPLE) -> Path:
    path = folder / "approvers.yaml"
    path.write_text(yaml.safe_dump({"version": 1, "people": dict(people)}))
    return path


def settings(folder: Path, **approvals: Any) -> dict[str, Any]:
    keys = folder / "idp.json"
    public = json.loads(ECAlgorithm.to_jwk(IDP_KEY.public_key()))
    keys.write_text(json.dumps({"keys": [public | {"kid": "k1", "alg": "ES256", "use": "sig"}]}))
    issuer = {"issuer": IDP, "audience": PERSON_AUDIENCE, "jwks_file": str(keys)}
    given = {"people": str(write_people(folder)), "issuers": [issuer]} | approvals
    bundle = folder / "rules"
    bundle.mkdir(exist_ok=True)
    (bundle / "decision.rego").write_text(POLICY)
    (bundle / "decision_test.rego").write_text(POLICY_TEST)
    audiences = {"audiences": {AUDIENCE: {}}}
    page = {"anonymous": "never"}
    return {"approvals": given, "policy": {"bundle": str(bundle)}, "identity": audiences, "page": page}


@pytest.fixture
async def site(open_world, tmp_path):
    async with open_world(**settings(tmp_path)) as world:
        yield world


def token(subject: str = "dave@acme", **claims: Any) -> str:
    now = int(time.time())
    given = {
        "iss": IDP,
        "aud": PERSON_AUDIENCE,
        "sub": subject,
        "iat": now,
        "exp": now + 300,
        "jti": str(time.time_ns()),
    }
    return jwt.encode(given | claims, IDP_KEY, "ES256", headers={"kid": "k1"})


def lasting(**more: Any) -> dict[str, str]:
    """From a minute ago, for half an hour."""
    now = time.time_ns()
    times = {"starts_at": moment(now - 60 * SECOND), "expires_at": moment(now + 1800 * SECOND)}
    return times | more


async def post(world, envelope: Envelope, bearer: str = "") -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else world.operator
    body = json.loads(envelope.text())
    async with world.client.post(f"{world.url}/v1/approvals", json=body, headers=headers) as answer:
        return answer.status, await answer.json()


async def give_in(world, predicate: Predicate, *names: str) -> dict[str, Any]:
    status, view = await post(world, signed(predicate, *names))
    assert status in (200, 201), view
    return view


async def shown(world, predicate: Predicate, job: str = "") -> dict[str, Any]:
    return json.loads(await world.get(f"/v1/approvals/{id_of(predicate)}" + (f"?job={job}" if job else "")))


async def deploy(world, key: str) -> tuple[str, set[str]]:
    """The job's id, and the codes that refused it; none when it succeeded."""
    spec = {"deployment_environment": "prod", "artifact_digest": DIGEST}
    script = (
        f"orchestrator-token --audience {AUDIENCE} > /dev/null && orchestrator-token --audience {AUDIENCE} > /dev/null"
    )
    job_id = await world.offer(key, script, **spec)
    await world.finished(job_id)
    job = json.loads(await world.get(f"/v1/jobs/{job_id}"))
    refused = {reason["code"] for one in job["decisions"] if one["verdict"] != "allow" for reason in one["reasons"]}
    assert (job["result"] == "success") is not bool(refused), job
    return job_id, refused


def told(world, kind: str) -> list[dict[str, Any]]:
    lines = (world.state / "audit").glob("*.jsonl")
    records = [json.loads(line) for path in sorted(lines) for line in path.read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


@pytest.mark.sandbox
async def test_a_break_glass_from_its_request_to_its_review(site):
    job_id, refused = await deploy(site, "before")
    assert refused == {MISSING}
    wanted = exception(**lasting())
    await give_in(site, wanted, "carol")
    await give_in(site, wanted, "alice")
    assert (await deploy(site, "one-approver"))[1] == {MISSING}
    assert (await shown(site, wanted))["state"] == "exception_approvers_missing"
    assert (await give_in(site, wanted, "bob"))["state"] == "counts"

    job_id, refused = await deploy(site, "used")
    assert refused == set()
    facts = [fact.event for fact in await site.rooms.journal.facts_of(job_id)]
    used = [event for event in facts if isinstance(event, ExceptionUsed)]
    alarms = [event for event in facts if isinstance(event, AlarmRaised)]
    # Once at admission, with it, and once for the audience, however often it is asked for.
    assert [(one.exception, one.kind, one.waived, one.approvers, one.number) for one in used] == [
        (id_of(wanted), "break_glass", (MISSING,), ("alice", "bob"), 1)
    ] * 2
    assert [one.alarm for one in alarms] == ["exception_used"] * 2
    admitted = next(event for event in facts if isinstance(event, JobAdmitted))
    assert [waiver.exception for waiver in admitted.decision.waivers] == [id_of(wanted)]
    assert facts.index(used[0]) == facts.index(admitted) + 1

    # One job was what it was for.
    other_id, refused = await deploy(site, "again")
    assert refused == {MISSING}
    view = await shown(site, wanted, other_id)
    assert view["for_job"]["reason"] == "exception_exhausted"
    assert [(use["stage"], use["number"]) for use in view["used"]] == [("admission", 1), ("exchange", 1)]
    assert (await shown(site, wanted, job_id))["for_job"]["counts"]

    metrics = await site.get("/metrics")
    assert "orchestrator_exception_use_total 2.0" in metrics
    assert "orchestrator_exception_unreviewed 1.0" in metrics
    assert 'orchestrator_alarm_total{alarm="exception_used"} 2.0' in metrics
    status, problem = await post(site, signed(review(wanted, time.time_ns()), "alice"))
    assert (status, problem["reason"]) == (403, "approval_not_permitted")
    status, view = await post(site, signed(review(wanted, time.time_ns())), token())
    assert (status, view["signers"]) == (201, ["dave"])
    assert (await shown(site, wanted))["reviews"][0]["by"] == ["dave"]
    assert "orchestrator_exception_unreviewed 0.0" in await site.get("/metrics")

    taken = told(site, "approval.taken")
    assert [record["data"]["people"] for record in taken] == [
        ["carol"], ["alice", "carol"], ["alice", "bob", "carol"], ["dave"]
    ]  # fmt: skip
    assert {record["data"]["of"] for record in taken} == {"break_glass", id_of(wanted)}
    used_at = [record["seq"] for record in told(site, "exception.used")]
    assert len(used_at) == 2


@pytest.mark.sandbox
async def test_without_a_durable_use_there_is_no_decision(site, monkeypatch):
    wanted = exception(**lasting())
    await give_in(site, wanted, "alice", "bob", "carol")

    def full(_self, _uses) -> None:
        raise TryAgainError("the disk is full", reason="approvals_unavailable", fix="make room")

    monkeypatch.setattr("orchestrator.evidence.approvals.store.ApprovalStore.use", full)
    job_id = await site.offer("full", "true", deployment_environment="prod", artifact_digest=DIGEST)
    await site.finished(job_id)
    job = json.loads(await site.get(f"/v1/jobs/{job_id}"))
    assert (job["result"], job["reason"]) == ("error", "policy_error")
    assert job["decisions"][0]["reasons"][0]["code"] == "approvals_unavailable"
    assert (await shown(site, wanted))["uses"] == 0


async def test_refusals_have_names(site):
    good = approval(**lasting())
    expired = approval(starts_at="2020-01-01T00:00:00Z", expires_at="2020-01-02T00:00:00Z")
    forged = Envelope(statement_bytes(good), signed(expired, "alice").signatures)
    cases = [
        (signed(good, "mallory"), 403, "approval_signer_unknown"),
        (signed(good), 403, "approval_signer_unknown"),
        (signed(good, "carol"), 403, "approval_not_permitted"),
        (forged, 403, "approval_forged"),
        (signed(expired, "alice"), 409, "approval_expired"),
        (signed(approval(**lasting(expires_at="2099-01-01T00:00:00Z")), "alice"), 422, "approval_too_long"),
        (signed(approval(kind="no kind", **lasting()), "alice"), 422, "approval_malformed"),
        (signed(revocation(good), "alice"), 404, "approval_unknown"),
        (signed(review(good), "alice"), 404, "approval_unknown"),
    ]
    for envelope, status, reason in cases:
        answer, problem = await post(site, envelope)
        assert (answer, problem["reason"]) == (status, reason)
        assert problem["fix"]
    assert (await post(site, signed(good, "alice")))[0] == 201
    assert (await post(site, signed(good, "alice")))[0] == 200
    assert (await post(site, signed(review(good), "alice")))[1]["reason"] == "approval_unused"
    assert (await post(site, signed(revocation(good), "alice")))[0] == 201
    assert (await shown(site, good))["revoked"]["by"] == ["alice"]


async def test_an_operator_revokes_and_nobody_else_without_a_signature(site):
    good = approval(**lasting())
    await give_in(site, good, "alice")
    path = f"{site.url}/v1/approvals/{id_of(good)}/revoke"
    async with site.client.post(path, json={"reason": "no"}, headers={"Authorization": f"Bearer {token()}"}) as answer:
        assert answer.status == 401
    async with site.client.post(path, json={"reason": "wrong build"}, headers=site.operator) as answer:
        assert (await answer.json())["state"] == "approval_revoked"
    (record,) = [one for one in told(site, "approval.taken") if one["data"]["type"] == "revocation"]
    assert record["data"]["of"] == id_of(good)
    assert record["actor"].startswith("hmac-sha256:")


async def test_a_person_signs_by_a_token_and_does_nothing_else(site):
    wanted = exception(**lasting())
    bearer = token()
    await give_in(site, wanted, "alice", "carol")
    status, view = await post(site, signed(wanted), bearer)
    assert (status, view["state"]) == (201, "counts")
    assert view["signers"] == ["alice", "carol", "dave"]
    # A token signs one object.
    status, problem = await post(site, signed(exception(reason="another", **lasting())), bearer)
    assert (status, problem["reason"]) == (401, "token_replayed")
    assert (await post(site, signed(wanted), bearer))[0] == 200
    for bad, reason in (
        (token("mallory@acme"), "claim_mismatch"),
        (token(exp=int(time.time()) - 60), "token_expired"),
        (token(iat=int(time.time()) - 3600), "token_too_old"),
        (token(aud="https://other.example"), "issuer_unknown"),
    ):
        status, problem = await post(site, signed(wanted), bad)
        assert (status, problem["reason"]) == (401, reason)
    headers = {"Authorization": f"Bearer {token()}"}
    async with site.client.get(f"{site.url}/v1/approvals", headers=headers) as answer:
        assert [line["id"] for line in (await answer.json())["approvals"]] == [id_of(wanted)]
    job = {"name": "job", "script": "true"}
    for call in (
        site.client.post(f"{site.url}/v1/jobs", json=job, headers=headers | {"Idempotency-Key": "k"}),
        site.client.get(f"{site.url}/v1/jobs", headers=headers),
        site.client.get(f"{site.url}/v1/keys", headers=headers),
    ):
        async with call as answer:
            assert answer.status == 401


async def test_nobody_without_a_token(site):
    for method, path in (
        ("POST", ""),
        ("GET", ""),
        ("GET", f"/{id_of(approval())}"),
        ("POST", f"/{id_of(approval())}/revoke"),
    ):
        async with site.client.request(method, f"{site.url}/v1/approvals{path}", json={}) as answer:
            assert answer.status == 401


async def test_lists_are_filtered(site):
    await give_in(site, approval(**lasting()), "alice")
    await give_in(site, exception(**lasting()), "carol")

    async def ids(query: str) -> list[str]:
        return [line["type"] for line in json.loads(await site.get(f"/v1/approvals{query}"))["approvals"]]

    assert await ids("") == ["exception", "approval"]
    assert await ids("?type=approval") == ["approval"]
    assert await ids("?kind=break_glass&environment=prod") == ["exception"]
    assert await ids("?environment=staging") == []
    assert await ids("?state=counts") == ["approval"]
    assert await ids("?limit=1") == ["exception"]


async def test_the_command_line_from_the_request_to_the_revocation(site, tmp_path):
    caller, person = tmp_path / "caller", tmp_path / "person"
    caller.write_text(site.rooms.issuer.mint_caller_token()[0])
    person.write_text(token())
    for name in ("alice", "carol"):
        (tmp_path / f"{name}.pem").write_bytes(private_pem(name))

    async def run(*arguments: str, bearer: Path = caller) -> Any:
        command = ["--url", site.url, "--token-file", str(bearer), "approvals", *arguments]
        return await asyncio.to_thread(CliRunner().invoke, app, command)

    asked = ("break_glass", "-e", "prod", "--artifact", DIGEST, "--waive", MISSING, "--as", "carol", "-r", "down")
    done = await run("request", *asked, "--key", str(tmp_path / "carol.pem"), "--json")
    name = json.loads(done.stdout)["id"]
    assert "1 of 2" in (await run("sign", name, "--key", str(tmp_path / "alice.pem"), "--yes")).stderr
    done = await run("sign", name, "--yes", bearer=person)
    assert done.stdout.strip() == f"{name} counts"
    done = await run("show", name, "--exit-status")
    assert done.exit_code == 0
    assert "signed by: alice, carol, dave" in done.stdout
    assert name in (await run("list", "--kind", "break_glass", "--state", "counts")).stdout
    assert "nothing of the kind" in (await run("list", "--type", "review")).stdout
    done = await run("review", name, "--verdict", "justified", "-r", "fine", "--key", str(tmp_path / "alice.pem"))
    assert done.exit_code == 1
    assert "approval_unused" in done.stderr
    assert (await run("revoke", name, "-r", "over", "--yes")).stdout.strip() == f"{name} approval_revoked"
    assert (await run("show", name, "--exit-status")).exit_code == 1
    file = tmp_path / "object.json"
    file.write_text(signed(exception(**lasting()), "carol").text())
    assert "exception_approvers_missing" in (await run("submit", str(file))).stdout


async def test_without_an_approvers_file_nothing_is_taken(world):
    status, problem = await post(world, signed(approval(**lasting()), "alice"))
    assert (status, problem["reason"]) == (404, "approvals_not_configured")
    assert json.loads(await world.get("/v1/approvals")) == {"approvals": []}


async def test_the_file_and_the_folders_are_loaded_again(open_world, tmp_path):
    folder = tmp_path / "signed"
    folder.mkdir()
    (folder / "broken.json").write_text("{}")
    wanted = exception(**lasting())
    (folder / "a-revocation.json").write_text(signed(revocation(approval(**lasting())), "alice").text())
    (folder / "b.json").write_text(signed(wanted, "alice", "carol").text())
    async with open_world(**settings(tmp_path, objects=[str(folder)])) as site:
        rooms = site.rooms
        also = {"approvers": lambda _actor: rooms.approvals.desk.load("signal:SIGHUP")}
        reload = Reload(rooms.policy_engine, rooms.trust, rooms.decisions, rooms.notes, rooms.metrics, None, also)
        assert (await shown(site, wanted))["state"] == "exception_approvers_missing"
        assert (await reload.reload())["approvers"].word == "unchanged"
        (folder / "b.json").write_text(signed(wanted, "alice", "bob", "carol").text())
        assert (await reload.reload())["approvers"].word == "loaded"
        assert (await shown(site, wanted))["state"] == "counts"
        write_people(tmp_path, {name: given for name, given in PEOPLE.items() if name != "bob"})
        assert (await reload.reload())["approvers"].word == "loaded"
        assert (await shown(site, wanted))["state"] == "exception_approvers_missing"
        (tmp_path / "approvers.yaml").write_text("version: 1\npeople: {alice: {keys: [none]}}")
        before = rooms.approvals.desk.digest
        assert (await reload.reload())["approvers"].word == "refused"
        assert rooms.approvals.desk.digest == before
    assert [record["actor"] for record in told(site, "approvers.loaded")] == ["daemon", "signal:SIGHUP"]
    assert [record["data"] for record in told(site, "approvers.refused")] == [{"reason": "approvers_invalid"}]


@pytest.mark.slow
@pytest.mark.sandbox
async def test_the_shipped_policy_sets_aside_what_people_signed_for_and_nothing_else(open_world, tmp_path):
    given = settings(tmp_path)
    pools = [{"name": "default"}, {"name": "open", "trust_tier": "untrusted"}]
    async with open_world(**given | {"policy": {}, "pools": pools}) as site:
        built = await site.offer("build", "echo x > app.whl; orchestrator-artifact app.whl", pool="open")
        await site.finished(built)
        digest = json.loads(await site.get(f"/v1/jobs/{built}"))["artifacts"][0]["digest"]

        async def deployed(key: str) -> tuple[str, set[str]]:
            job_id = await site.offer(key, "true", deployment_environment="staging", artifact_digest=digest)
            await site.finished(job_id)
            job = json.loads(await site.get(f"/v1/jobs/{job_id}"))
            return job["result"], {reason["code"] for reason in job["decisions"][0]["reasons"]}

        missing = {"build_trust_tier_too_low", "sbom_missing"}
        assert await deployed("before") == ("denied", missing)
        first = exception(environment="staging", artifact_digest=digest, waives=("sbom_missing",), **lasting())
        await give_in(site, first, "carol", "bob")
        await post(site, signed(first), token())
        assert await deployed("half") == ("denied", {"build_trust_tier_too_low"})
        assert (await shown(site, first))["uses"] == 0
        second = exception(environment="staging", artifact_digest=digest, waives=tuple(sorted(missing)), **lasting())
        await give_in(site, second, "carol", "bob")
        await post(site, signed(second), token())
        assert (await deployed("whole"))[0] == "success"
        assert (await shown(site, first))["uses"] + (await shown(site, second))["uses"] >= 1
