from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.model.decision import Stage
from orchestrator.policy.enquiry import Enquiry
from orchestrator.policy.facts import UnfitFactError
from orchestrator.policy.input import (
    admission_input,
    enquiry_input,
    exchange_input,
    is_digest,
    rfc3339,
    work_digest,
)
from orchestrator.policy.lookups import Verified
from tests.unit.policy.samples import EVERYTHING, WORKLOAD

NOTHING = Verified()
DIGEST = "sha256:" + "a" * 64
NOW = 1_795_341_600_123_456_789
Make = Callable[..., Any]


def test_admission(make_record: Make, make_pool: Make) -> None:
    document = admission_input(make_record(deployment_environment="staging"), make_pool(), NOW, NOTHING)
    assert document["stage"] == "admission"
    assert document["time"] == "2026-11-22T10:00:00.123456789Z"
    assert document["job"]["id"] == "dispatch.abc.1"
    assert document["runner"] is None
    assert document["artifact"] is None
    assert document["approvals"] == []
    assert document["credentials"] == {"workload_identity": True, "static_secrets": 0, "secrets": []}
    assert document["request"]["deployment_environment"] == "staging"
    assert document["request"]["audience"] == ""
    assert document["pool"]["egress"][0] == {"host": "*.example.com", "port": 443, "protocol": "tls"}
    json.dumps(document)


def test_exchange_names_the_bound_runner(make_record: Make, make_pool: Make) -> None:
    document = exchange_input(make_record(bound=True), make_pool(), "https://a.example", NOW, NOTHING)
    assert document["stage"] == "exchange"
    assert document["request"]["audience"] == "https://a.example"
    assert document["runner"]["uid"] == "uid-1"
    assert document["runner"]["bound_at"].startswith("2026-11-22T10:00:00.")


def test_only_a_platforms_job_names_its_artifact_later(make_record: Make, make_pool: Make) -> None:
    def later(**spec: Any) -> list[object]:
        record, pool = make_record(**spec), make_pool()
        made = (admission_input(record, pool, NOW, NOTHING), exchange_input(record, pool, "a", NOW, NOTHING))
        return [document["job"]["artifact_named_later"] for document in made]

    assert later(awaits_platform_job=True) == [True, True]
    assert later(awaits_platform_job=True, artifact_digest=DIGEST) == [False, False]
    assert later(claimed={"artifact_named_later": "true"}) == later(artifact_digest=DIGEST) == [False, False]


def test_a_runner_that_is_not_bound_is_none(make_record: Make, make_pool: Make) -> None:
    assert exchange_input(make_record(), make_pool(), "https://a.example", NOW, NOTHING)["runner"] is None


def test_evidence_gets_its_defaults_and_keeps_what_else_it_says(make_record: Make, make_pool: Make) -> None:
    record = make_record(artifact_digest=DIGEST)
    artifact = admission_input(record, make_pool(), NOW, Verified({"signed": True, "builder": "x"}))["artifact"]
    assert artifact == {
        "digest": DIGEST, "signed": True, "sbom": False, "provenance": False, "base": "", "builder": "x",
        "signatures": (), "sboms": (), "provenances": (), "scans": [], "summaries": (), "refused": (),
    }  # fmt: skip


@pytest.mark.parametrize(
    "evidence",
    [
        {"digest": "sha256:" + "b" * 64},
        {"digest": DIGEST.upper()},
        {"signed": 1},
        {"signed": "true"},
        {"sbom": None},
        {"provenance": 0},
        {"base": ["distroless"]},
    ],
)
def test_unfit_evidence(make_record: Make, make_pool: Make, evidence: dict[str, object]) -> None:
    with pytest.raises(UnfitFactError):
        admission_input(make_record(artifact_digest=DIGEST), make_pool(), NOW, Verified(evidence))


@pytest.mark.parametrize("requested", ["", "sha256:short", "md5:" + "a" * 64, DIGEST + "\n"])
def test_evidence_without_a_well_formed_digest_asked_for(make_record: Make, make_pool: Make, requested: str) -> None:
    assert not is_digest(requested)
    with pytest.raises(UnfitFactError):
        admission_input(make_record(artifact_digest=requested), make_pool(), NOW, Verified({"digest": requested}))


_TEXT = st.text(max_size=12)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    claimed=st.dictionaries(
        _TEXT | st.sampled_from(["pool", "artifact", "approvals", "signed", "trust_tier", "stage", "runner"]), _TEXT
    ),
    name=_TEXT,
    pipeline=_TEXT,
    environment=st.dictionaries(_TEXT, _TEXT, max_size=3),
    script=_TEXT,
)
def test_the_jobs_word_reaches_nothing_but_claimed_and_the_digest_of_its_work(
    make_record: Make, make_pool: Make, claimed: dict[str, str], **spec: Any
) -> None:
    plain = admission_input(make_record(), make_pool(), NOW, NOTHING)
    said = admission_input(make_record(claimed=claimed, **spec), make_pool(), NOW, NOTHING)
    for document in (plain, said):
        del document["claimed"], document["job"]["work_digest"]
    assert plain == said


def test_claimed_is_bounded_and_cannot_hide_the_name(make_record: Make, make_pool: Make) -> None:
    claimed = {f"k{i:04}": "v" for i in range(500)} | {"name": "fake"}
    document = admission_input(make_record(claimed=claimed), make_pool(), NOW, NOTHING)
    assert len(document["claimed"]) <= 102
    assert document["claimed"]["name"] == "build"


def test_the_work_digest_knows_script_and_variables(make_record: Make) -> None:
    digests = {
        work_digest(make_record(**spec).offer)
        for spec in ({}, {"script": "make x"}, {"environment": {"A": "1"}}, {"environment": {"A": "2"}})
    }
    assert len(digests) == 4
    one = make_record(environment={"A": "1", "B": "2"}).offer
    two = make_record(environment={"B": "2", "A": "1"}).offer
    assert work_digest(one) == work_digest(two)


@pytest.mark.parametrize(("at", "text"), [(0, "1970-01-01T00:00:00.000000000Z"), (1, "1970-01-01T00:00:00.000000001Z")])
def test_rfc3339(at: int, text: str) -> None:
    assert rfc3339(at) == text


_ONE_ROW = ("caller.facts", "claimed", "artifact.built", ".reporter")


def _paths(value: Any, prefix: str = "") -> Iterator[str]:
    if isinstance(value, dict) and value and not prefix.endswith(_ONE_ROW):
        for key, inner in value.items():
            yield from _paths(inner, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        yield from _paths(value[0], f"{prefix}[]")
    else:
        yield prefix


def test_the_reference_page_lists_exactly_these_fields(make_record: Make, make_pool: Make) -> None:
    record = make_record(bound=True, artifact_digest=DIGEST, secrets=("legacy-registry",))
    of_a_job = exchange_input(record, make_pool(), "https://a.example", NOW, EVERYTHING)
    enquiry = Enquiry(Stage.DEPLOYMENT, "prod", DIGEST, workload=WORKLOAD)
    of_none = enquiry_input(enquiry, enquiry.record(NOW), NOW, EVERYTHING)
    page = (Path(__file__).parents[3] / "docs" / "reference" / "policy-input.md").read_text()
    fields = page.partition("### Facts of GitHub jobs")[0]
    documented = set(re.findall(r"^\| `([^`]+)` \|", fields, re.MULTILINE))
    made = {path for document in (of_a_job, of_none) for path in _paths(document)}
    made -= {"job", "caller", "pool", "runner", "workload"}
    assert made == documented
