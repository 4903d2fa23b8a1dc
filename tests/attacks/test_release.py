"""T16, T17, T20: nobody gets into production by another's artifact, by hearsay about it, or by his own emergency."""

from __future__ import annotations

import base64
import json
import time

import pytest
import yaml
from release_site import REACH, Release, emergency, settings, signed, stretched, write

from orchestrator.evidence.approvals.statements import SECOND, moment
from orchestrator.testing.approvals import approval

pytestmark = pytest.mark.attack

UNAPPROVED = {"security_approval_missing"}


@pytest.fixture
async def release(build, tmp_path):
    """A running daemon with the shipped rules of production."""
    site = build()
    document = yaml.safe_load(site.installation.config.read_text("utf-8"))
    document |= settings(tmp_path / "release", document["pools"])
    site.installation.config.write_text(yaml.safe_dump(document), encoding="utf-8")
    await site.installation.start()
    return Release(site)


def agreed(digest: str, *names: str, **more):
    """A security approval of this artifact for prod."""
    now = time.time_ns()
    times = {"starts_at": moment(now - 60 * SECOND), "expires_at": moment(now + 600 * SECOND)}
    return signed(approval(artifact_digest=digest, **times | more), *names)


async def test_emergencies_are_for_others_to_grant(release, failed):
    digest = await release.build()
    await release.scan(digest)
    assert await release.refusals(digest) == UNAPPROVED, "all else is in order"
    past = {"begun": -1900, "lasts": 1800}
    tries = {
        "one approver": (emergency(digest), ("carol", "alice")),
        "one person with two keys": (emergency(digest, reason="2"), ("carol", "alice", "alice-second")),
        "who asks signs for herself": (emergency(digest, requested_by="alice"), ("alice", "bob")),
        "who never asked is named": (emergency(digest, reason="4"), ("alice", "bob")),
        "a stranger's signature": (emergency(digest, reason="5"), ("carol", "alice", "mallory")),
        "it has ended": (emergency(digest, **past), ("carol", "alice", "bob")),
        "it has not begun": (emergency(digest, begun=600), ("carol", "alice", "bob")),
        "it is of another artifact": (emergency("sha256:" + "b" * 64), ("carol", "alice", "bob")),
        "it is of another environment": (emergency(digest, environment="staging"), ("carol", "alice", "bob")),
        "it is of another repository": (
            emergency(digest, repository_id="667", issuer="https://ci.example"), ("carol", "alice", "bob"),
        ),
        "it lasts for a week": (emergency(digest, lasts=7 * 86400), ("carol", "alice", "bob")),
        "the pipeline's own identity signs": (emergency(digest, reason="9"), ("carol", "alice", "dave")),
    }  # fmt: skip
    states = {}
    for name, (exception, signers) in tries.items():
        status, answer = await release.give_in(signed(exception, *signers))
        states[name] = answer["state"] if status < 300 else answer["reason"]
        assert await release.refusals(digest) == UNAPPROVED, name
    good = signed(emergency(digest, begun=-1000, lasts=900, reason="over"), "carol", "alice", "bob")
    longer = stretched(good, moment(time.time_ns() + 600 * SECOND))
    status, answer = await release.give_in(longer)
    assert status >= 400, answer
    states["its end is moved on after they signed"] = answer["reason"]
    assert await release.refusals(digest) == UNAPPROVED
    failed(
        "T20",
        f"break the glass alone: {', '.join(tries)}, its end is moved on after they signed",
        stopped_by="two approvers other than who asks and who deploys; life, scope and each signature are checked",
        seen_by=", ".join(f"`{state}`" for state in sorted(set(states.values()))),
    )


async def test_a_granted_emergency_is_narrow_counted_and_seen(release, failed):
    digest = await release.build()
    await release.scan(digest)
    granted = emergency(digest, waives=("security_approval_missing", "artifact_unsigned", "static_secrets"))
    status, answer = await release.give_in(signed(granted, "carol", "alice", "bob"))
    assert (status, answer["state"]) == (201, "counts")

    view = await release.deploy(digest)
    assert view["result"] == "success", view
    assert next(waiver["codes"] for one in view["decisions"] for waiver in one["waivers"]) == list(UNAPPROVED)
    assert any(one["alarm"].startswith("exception") or "break_glass" in one["alarm"] for one in view["alarms"]), view
    assert await release.refusals(digest) == UNAPPROVED, "it was for one job"
    other = await release.build("never scanned")
    assert "security_approval_missing" in await release.refusals(other)

    unsigned = "sha256:" + "d" * 64
    wide = emergency(unsigned, waives=("artifact_unknown", "artifact_unsigned", "built_elsewhere", "scan_missing"))
    await release.give_in(signed(wide, "carol", "alice", "bob"))
    assert {"artifact_unknown", "artifact_unsigned"} <= await release.refusals(unsigned)
    failed(
        "T20",
        "use a granted break-glass for a second job, another artifact, or to deploy what nobody signed",
        stopped_by="it is for one artifact and as many jobs as were signed; some rules nobody can set aside",
        seen_by="an alarm on the job, `exception.used` in the audit log, `exception_exhausted`, the review that is due",
    )


async def test_hearsay_about_an_artifact_counts_for_nothing(release, failed):
    digest = await release.build()
    approved, answer = await release.give_in(agreed(digest, "alice"))
    assert approved == 201, answer
    assert await release.refusals(digest) == {"scan_missing"}

    await release.scan(digest, pool="default")
    assert await release.refusals(digest) == {"scan_missing"}, "scanned by a job that is no scanner"
    view = await release.job("printf good > app\norchestrator-artifact app\n", "mallory/app", pool="default")
    assert view["result"] == "success", view
    assert await release.refusals(digest) == {"scan_missing"}, "its origin is the first one"
    swear = write("statement.json", {"verificationResult": "PASSED", "builder": {"id": "https://ci.example"}})
    kinds = {
        "a summary": "https://slsa.dev/verification_summary/v1",
        "provenance": "https://slsa.dev/provenance/v1",
        "a signature": "https://sigstore.dev/cosign/sign/v1",
        "an approval": "urn:orchestrator:approval:v1",
    }
    for name, kind in kinds.items():
        told = f"orchestrator-artifact attest {digest} --predicate statement.json --type {kind}\n"
        view = await release.job(swear + told, pool="default")
        assert view["result"] == "failure", name
        assert "predicate_type_refused" in await release.site.log(view["id"]), name
    assert await release.refusals(digest) == {"scan_missing"}
    failed(
        "T17",
        f"a job reports about another's artifact: a scan, its origin, {', '.join(kinds)}",
        stopped_by="scans count from scanners only, the first provenance stands, and no job can have these signed",
        seen_by="`scan_missing`, `predicate_type_refused`; each one's reason in `orchestrator artifacts show DIGEST`",
    )


async def test_another_teams_artifact_and_a_build_that_reached_out(release, failed):
    digest = await release.build()
    await release.scan(digest)
    await release.give_in(agreed(digest, "alice"))
    assert "source_mismatch" in await release.refusals(digest, "mallory/app")

    talked = await release.build("talked", REACH)
    await release.scan(talked)
    await release.give_in(agreed(talked, "alice"))
    assert await release.refusals(talked) == {"build_reached_out"}
    failed(
        "T17",
        "deploy what another repository built; deploy what a build made that tried to reach a host it may not",
        stopped_by="the artifact's repository must be the deploying job's; provenance tells of refused connections",
        seen_by="`source_mismatch`, `build_reached_out`",
    )


async def test_an_artifact_cannot_be_swapped_behind_its_approval(release, failed):
    digest = await release.build()
    await release.scan(digest)
    await release.give_in(agreed(digest, "alice"))
    rebuilt = await release.build("good but one")
    await release.scan(rebuilt)
    assert await release.refusals(rebuilt) == UNAPPROVED, "the approval is of the other digest"
    ask = "orchestrator-token --audience https://prod.deploy.example | cut -d. -f2 > payload\n"
    view = await release.deploy(digest, script=ask + 'visit "secret-$(od -An -v -tx1 payload | tr -d " \\n")"\n')
    assert view["result"] == "success", view
    (secret,) = [word for word in release.site.witness.words(view["id"]) if word.startswith("secret-")]
    text = bytes.fromhex(secret.removeprefix("secret-")).decode().strip()
    claims = json.loads(_decoded(text))
    assert claims["artifact_digest"] == digest
    assert claims["verification_summary"] == view["summaries"][0]["digest"]
    failed(
        "T16",
        "have one artifact approved and deploy another; use the token of one for another",
        stopped_by="approvals, evidence and the token's claims are of one digest",
        seen_by="`security_approval_missing`; `artifact_digest` and `verification_summary` in the token",
    )


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))
