"""Signers of the settings: their files are read, what each may say is held to, and a bad file changes nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import ValidationError

from orchestrator.daemon.promotion.signers import SignersHolder, own_builders, try_signers
from orchestrator.errors import ConfigurationError, TryAgainError
from orchestrator.evidence.attestations.making import SIGNATURE_TYPE
from orchestrator.evidence.attestations.signers import CONTROL_PLANE, Claim
from orchestrator.evidence.provenance import PREDICATE_TYPE, Builder
from orchestrator.evidence.reported import CYCLONEDX, VULNERABILITIES
from orchestrator.evidence.signing_key import generate_evidence_key
from orchestrator.model.job import PoolName
from orchestrator.model.pool import Pool, TrustTier
from orchestrator.settings import Settings
from orchestrator.settings.promotion import PromotionSettings

BUILDER = Builder("https://ci.example", "0.1.0")
SANDBOX = Pool(PoolName("default"), "sandbox", TrustTier.STANDARD, 4, "host-toolchain", "bubblewrap")
PODS = replace(SANDBOX, name=PoolName("pods"), backend="kubernetes", isolation="runc")
POOLS = {SANDBOX.name: SANDBOX, PODS.name: PODS}


@pytest.fixture
def key_file(tmp_path):
    """A file with the public half of a fresh key; the key."""

    def make(name="team.pub"):
        key = generate_evidence_key()
        (tmp_path / name).write_text(key.public_pem)
        return tmp_path / name, key

    return make


@pytest.fixture
def holder(tmp_path):
    own = generate_evidence_key()

    def make(**promotion):
        pools = [{"name": "default"}, {"name": "pods"}]
        settings = Settings.model_validate({"state_dir": str(tmp_path), "promotion": promotion, "pools": pools})
        return SignersHolder(settings, POOLS, BUILDER, own)

    make.own = own
    return make


async def test_without_settings_there_are_only_ourselves(holder):
    made = holder()
    assert await made.load() is False
    assert not made.configured
    assert [signer.name for _, signer in made.current().keys] == [CONTROL_PLANE]


async def test_a_signer_as_it_is_configured(holder, key_file):
    path, key = key_file()
    made = holder(
        signers={
            "team": {
                "key_files": [str(path)],
                "may": ["provenance", "scan"],
                "builders": {"https://b.example/1": 3},
                "scanners": ["trivy"],
                "external_parameters": ["workflow"],
                "not_before": "2026-01-01T00:00:00Z",
                "not_after": "2027-01-01T00:00:00+01:00",
            }
        },
        scanners={"trivy": {"pools": ["pods"], "callers": ["c"]}},
        sbom_reporters={"pools": ["default"]},
    )
    assert await made.load() is True
    signers = made.current()
    found = signers.named(key.id)
    assert found is not None
    team = found[1]
    assert (team.name, team.may, team.builders) == ("team", {Claim.PROVENANCE, Claim.SCAN}, {"https://b.example/1": 3})
    assert (team.scanners, team.parameters) == ({"trivy"}, {"workflow"})
    assert (team.not_before_ns, team.not_after_ns) == (1767225600 * 10**9, 1798758000 * 10**9)
    assert signers.scanners["trivy"].include("pods", "x")
    assert signers.scanners["trivy"].include("x", "c")
    assert signers.sboms.include("default", "x")
    assert not signers.sboms.include("pods", "x")


async def test_keys_that_we_had_before_still_speak_for_us(holder, key_file):
    path, before = key_file("before.pub")
    path.write_text(path.read_text() + holder.own.public_pem)  # today's among them is no mistake
    made = holder(previous_keys=[str(path)])
    await made.load()
    assert {made.current().named(one.id)[1].name for one in (holder.own, before)} == {CONTROL_PLANE}


async def test_what_changed_is_told_before_it_is_in_force(holder, key_file):
    path, _ = key_file()
    made = holder(signers={"team": {"key_files": [str(path)], "may": ["signature"]}})
    told = []

    async def note(digest, names):
        told.append((digest, names, made.digest))

    assert await made.load(note) is True
    first = made.digest
    assert await made.load(note) is False
    _, second = key_file()
    assert await made.load(note) is True
    assert made.current().named(second.id) is not None
    assert [(digest, list(names)) for digest, names, _ in told] == [(first, ["team"]), (made.digest, ["team"])]
    assert told[1][2] == first

    async def sick(_digest, _names):
        raise TryAgainError("the disk is full", reason="audit_unavailable")

    _, third = key_file()
    with pytest.raises(TryAgainError):
        await made.load(sick)
    assert made.current().named(third.id) is None


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "signer_key_unreadable"),
        ("", "signer_key_unusable"),
        ("x" * 70_000, "signer_key_unusable"),
        ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", "signer_key_unusable"),
    ],
    ids=["gone", "empty", "too large", "private"],
)
async def test_a_file_that_is_not_fit_keeps_what_was(holder, key_file, content, reason):
    path, key = key_file()
    made = holder(signers={"team": {"key_files": [str(path)], "may": ["signature"]}})
    await made.load()
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        await made.load()
    assert caught.value.reason == reason
    assert str(path) in str(caught.value)
    assert "promotion.signers.team.key_files.0" in str(caught.value)
    assert made.current().named(key.id) is not None


async def test_two_signers_cannot_have_one_key(holder, key_file):
    path, _ = key_file()
    one = {"key_files": [str(path)], "may": ["signature"]}
    with pytest.raises(ConfigurationError) as caught:
        await holder(signers={"a": one, "b": one}).load()
    assert caught.value.reason == "signer_key_shared"


async def test_nobody_else_can_have_our_own(holder, tmp_path):
    (tmp_path / "ours.pub").write_text(holder.own.public_pem)
    made = holder(signers={"impostor": {"key_files": [str(tmp_path / "ours.pub")], "may": ["signature"]}})
    with pytest.raises(ConfigurationError) as caught:
        await made.load()
    assert caught.value.reason == "signer_key_shared"


def test_checking_finds_what_loading_would(key_file):
    path, _ = key_file()
    one = {"key_files": [str(path)], "may": ["signature"]}
    try_signers(PromotionSettings.model_validate({"signers": {"a": one}}))
    for signers in ({"a": one, "b": one}, {"a": one | {"key_files": [str(path) + "x"]}}):
        with pytest.raises(ConfigurationError):
            try_signers(PromotionSettings.model_validate({"signers": signers}))


def test_levels_of_our_own_builders():
    told = own_builders(PromotionSettings(), POOLS, BUILDER)
    assert told == {
        "https://ci.example/builders/sandbox/bubblewrap/standard/v1": 2,
        "https://ci.example/builders/sandbox/bubblewrap/standard/waived/v1": 1,
        "https://ci.example/builders/kubernetes/runc/standard/v1": 3,
        "https://ci.example/builders/kubernetes/runc/standard/waived/v1": 1,
    }
    given = PromotionSettings(build_levels={"pods": 0, "default": 3})
    assert sorted(own_builders(given, POOLS, BUILDER).values()) == [0, 0, 1, 3]


def test_pools_that_share_a_builder_are_worth_the_least_of_them():
    other = replace(SANDBOX, name=PoolName("other"))
    pools = {SANDBOX.name: SANDBOX, other.name: other}
    for given in ({"other": 0}, {"default": 0}):
        told = own_builders(PromotionSettings.model_validate({"build_levels": given}), pools, BUILDER)
        assert set(told.values()) == {0}


FILE = {"key_files": ["/k.pub"]}


@pytest.mark.parametrize(
    ("promotion", "words"),
    [
        ({"signers": {"control-plane": {**FILE, "may": ["signature"]}}}, "another name"),
        ({"signers": {"Team": {**FILE, "may": ["signature"]}}}, "signers.Team"),
        ({"signers": {"t": {"key_files": [], "may": ["signature"]}}}, "key_files"),
        ({"signers": {"t": {**FILE, "may": []}}}, "may"),
        ({"signers": {"t": {**FILE, "may": ["everything"]}}}, "'signature'"),
        ({"signers": {"t": {**FILE, "may": ["provenance"]}}}, "builders"),
        ({"signers": {"t": {**FILE, "may": ["sbom"], "builders": {"b": 1}}}}, "both or neither"),
        ({"signers": {"t": {**FILE, "may": ["provenance"], "builders": {"b": 4}}}}, "builders.b"),
        ({"signers": {"t": {**FILE, "may": ["scan"]}}}, "scanners"),
        ({"signers": {"t": {**FILE, "may": ["scan"], "scanners": ["Trivy"]}}}, "lower case"),
        ({"signers": {"t": {**FILE, "may": ["sbom"], "external_parameters": []}}}, "external_parameters"),
        ({"signers": {"t": {**FILE, "may": ["sbom"], "not_after": "2027-01-01T00:00:00"}}}, "not_after"),
        (
            {
                "signers": {
                    "t": {
                        **FILE,
                        "may": ["sbom"],
                        "not_before": "2027-01-01T00:00:00Z",
                        "not_after": "2027-01-01T00:00:00Z",
                    }
                }
            },
            "later than",
        ),
        ({"scanners": {"Trivy": {}}}, "lower case"),
        ({"scanners": {"trivy": {"pools": ["none"]}}}, "promotion.scanners.trivy.pools names 'none'"),
        ({"sbom_reporters": {"pools": ["none"]}}, "promotion.sbom_reporters.pools names 'none'"),
        ({"build_levels": {"none": 1}}, "promotion.build_levels names 'none'"),
    ],
)
def test_settings_that_do_not_fit(promotion, words, tmp_path):
    with pytest.raises(ValidationError) as caught:
        Settings.model_validate({"state_dir": str(tmp_path), "promotion": promotion})
    assert words in str(caught.value)


async def test_reporters_are_listed_for_what_they_report_and_nothing_else(holder):
    found = holder(scanners={"trivy": {"pools": ["pods"]}}, sbom_reporters={"pools": ["default"]})
    await found.load()
    listed = {
        (kind, pool)
        for kind in (CYCLONEDX, VULNERABILITIES, SIGNATURE_TYPE, PREDICATE_TYPE)
        for pool in ("default", "pods", "else")
        if found.lists_reporter(kind, pool, "somebody")
    }
    assert listed == {(CYCLONEDX, "default"), (VULNERABILITIES, "pods")}
