"""Documents are read strictly: what is wrong is named with file, place, value and the way out."""

from __future__ import annotations

import os

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.errors import ConfigurationError
from orchestrator.identity.trust import reading
from orchestrator.identity.trust.kinds import KINDS
from orchestrator.identity.trust.reading import MAX_DOCUMENTS, MAX_FILE_BYTES, document
from orchestrator.identity.trust.strict import Place
from orchestrator.identity.trust.trust_map import TrustMap
from tests.unit.identity.trust.conftest import EXAMPLES, PROD


def change(content, path, value):
    """The content with one place changed; a value of None removes it."""
    *way, last = path.split("/")
    place = content
    for key in way:
        place = place[int(key) if isinstance(place, list) else key]
    if value is None:
        place.pop(last, None)
    else:
        place[last] = value
    return content


WRONG = [
    # place, value, what the error has to say
    ("trust_map", None, ["prod.yaml lacks trust_map"]),
    ("trust_map", 2, ["trust_map is 2", "from 1 to 1"]),
    ("trust_map", True, ["trust_map is True"]),
    ("environment", None, ["lacks environment"]),
    ("environment", "-x", ["environment is '-x'"]),
    ("environment", 7, ["environment must be a text, not 7", "quotes"]),
    ("default", {}, ["unknown key 'default'", "known are trust_map"]),
    ("issuer", "Prod!", ["issuer is 'Prod!'"]),
    ("protected", "yes", ["protected is 'yes'", "true or false"]),
    ("shared_roles", "a", ["shared_roles is 'a'", "a list of 1 to 100"]),
    ("targets", {}, ["targets must be a mapping with an entry"]),
    ("targets", [], ["targets must be a mapping"]),
    ("targets/Aws", {}, ["targets is 'Aws'", "has to match"]),
    ("targets/aws-prod/kind", "amazon", ["targets.aws-prod.kind is 'amazon'", "one of aws, gcp"]),
    ("targets/aws-prod/audience", None, ["targets.aws-prod lacks audience"]),
    ("targets/aws-prod/audience", "a b", ["targets.aws-prod.audience is 'a b'"]),
    ("targets/aws-prod/audience", "a" * 256, ["1 to 255 printable"]),
    ("targets/aws-prod/session_seconds", 899, ["session_seconds is 899", "900 to 43200"]),
    ("targets/aws-prod/session_seconds", 900.0, ["session_seconds is 900.0"]),
    ("targets/aws-prod/slack_seconds", -1, ["slack_seconds is -1"]),
    ("targets/aws-prod/max_ttl_seconds", 3601, ["max_ttl_seconds is 3601"]),
    ("targets/aws-prod/roles", ["x"], ["targets.aws-prod has an unknown key 'roles'"]),
    ("targets/aws-prod", {"kind": "vault", "audience": "v"}, ["lacks session_seconds", "how long"]),
    ("targets/aws-prod", {"kind": "github", "audience": "acme"}, ["audience is 'acme'", "github:"]),
    ("grants", {}, ["grants is a mapping", "a list of 0 to 2000"]),
    ("grants/0/name", "App", ["grants.0.name is 'App'"]),
    ("grants/0/target", "gcp", ["grants.app-release.target names no target: 'gcp'", "targets are aws-prod"]),
    ("grants/0/default", True, ["grants.0 has an unknown key 'default'"]),
    ("grants/0/when", {}, ["grants.app-release.when must be a mapping with an entry"]),
    ("grants/0/when", None, ["grants.0 lacks when"]),
    ("grants/0/when", {f"c{n}": {"equals": "x"} for n in range(21)}, ["when has 21 entries", "20 is the most"]),
    ("grants/0/when/Ref", {"equals": "x"}, ["when is 'Ref'"]),
    ("grants/0/when/ref", "main", ["when.ref must be a mapping, not 'main'", "equals, one_of, matches"]),
    ("grants/0/when/ref", {}, ["when.ref has 0 conditions", "exactly one"]),
    ("grants/0/when/ref", {"equals": "a", "matches": "b*"}, ["when.ref has 2 conditions", "exactly one"]),
    ("grants/0/when/ref", {"not": "main"}, ["when.ref has an unknown key 'not'"]),
    ("grants/0/when/ref", {"taggable": True}, ["when.ref has an unknown key 'taggable'"]),
    ("grants/0/when/ref", {"equals": ""}, ["when.ref.equals is ''", "1 to 512"]),
    ("grants/0/when/ref", {"equals": "a\n"}, ["when.ref.equals is"]),
    ("grants/0/when/ref", {"equals": None}, ["when.ref.equals must be a text, not empty"]),
    ("grants/0/when/repository_id", {"equals": 42}, ["repository_id.equals must be a text, not 42", "quotes"]),
    ("grants/0/when/ref_protected", {"equals": True}, ["must be a text, not True", "quotes"]),
    ("grants/0/when/ref", {"one_of": []}, ["when.ref.one_of is a list of 0"]),
    ("grants/0/when/ref", {"one_of": ["a", "a"]}, ["when.ref.one_of has 'a' twice"]),
    ("grants/0/when/ref", {"one_of": "a"}, ["when.ref.one_of is 'a'"]),
    ("grants/0/when/ref", {"one_of": [str(n) for n in range(101)]}, ["a list of 101"]),
    ("grants/0/when/ref", {"matches": "main"}, ["when.ref.matches is 'main'", "has no *; write equals"]),
    ("grants/0/when/ref", {"matches": "a***"}, ["three stars"]),
    ("grants/0/roles", "role", ["roles is 'role'", "a list of 1 to 50"]),
    ("grants/0/roles", ["app-release"], ["roles has 'app-release', which is no role of aws", "arn:aws:iam::"]),
    ("grants/0/roles", ["arn:aws:iam::12345678901:role/x"], ["which is no role of aws"]),
    ("grants/0/roles", ["arn:aws:iam::123456789012:user/x"], ["which is no role of aws"]),
    ("grants/0/max_ttl_seconds", None, ["grants.app-release lacks max_ttl_seconds"]),
    ("grants/0/max_ttl_seconds", 0, ["max_ttl_seconds is 0"]),
    ("grants/0/max_ttl_seconds", 901, ["max_ttl_seconds is 901", "1 to 900"]),
    ("grants/0/session_tags/stage", {"claim": "a", "value": "b"}, ["session_tags.stage has 2 sources"]),
    ("grants/0/session_tags/stage", {"value": "a;b"}, ["session_tags is not what AWS accepts", "'stage': letters"]),
    ("grants/0/session_tags/aws:x", {"value": "a"}, ["session_tags is not what AWS accepts"]),
    ("grants/0/session_tags/Stage", {"value": "a"}, ["two keys differ in case only"]),
    ("grants/0/session_tags/stage", {"claim": "Ref"}, ["session_tags.stage.claim is 'Ref'"]),
    ("grants/0/transitive", ["team"], ["transitive names 'team', which is no session tag"]),
    ("grants/0/permissions", {"contents": "read"}, ["permissions is given, but a target of kind aws knows none"]),
    ("grants/0/repository_id", "1", ["repository_id is given, but a target of kind aws has no repository"]),
]


@pytest.mark.parametrize(("path", "value", "told"), WRONG, ids=lambda one: str(one)[:60])
def test_what_is_wrong_is_named_with_its_place_value_and_fix(load, prod, path, value, told):
    with pytest.raises(ConfigurationError) as caught:
        load(change(prod, path, value))
    error = caught.value
    assert error.reason == "trust_map_invalid"
    assert error.fix
    for words in told:
        assert words in error.diagnostics()
    assert "prod.yaml" in str(error) or "7.yaml" in str(error) or "-x.yaml" in str(error) or "none.yaml" in str(error)


GITHUB = {"kind": "github", "audience": "github:acme"}


@pytest.mark.parametrize(
    ("grant", "told"),
    [
        ({}, "lacks permissions"),
        ({"permissions": {"contents": "own"}}, "permissions.contents is 'own'"),
        ({"permissions": {"contents": "read"}, "roles": ["x"]}, "a target of kind github knows no roles"),
        ({"permissions": {"contents": "read"}, "max_ttl_seconds": 60}, "GitHub decides the life"),
        ({"permissions": {"contents": "read"}, "session_tags": {"a": {"value": "b"}}}, "reads no session tags"),
        ({"permissions": {"contents": "read"}, "repository_id": "acme/shop"}, "repository_id is 'acme/shop'"),
        (
            {"permissions": {"contents": "read"}, "when": {"repository_owner_id": {"equals": "1"}}},
            "says no repository",
        ),
    ],
)
def test_installation_tokens_have_permissions_in_one_repository_and_nothing_else(load, prod, grant, told):
    prod["targets"] = {"source": GITHUB}
    prod["grants"] = [{"name": "a", "when": {"repository_id": {"equals": "1"}}, "target": "source"} | grant]
    with pytest.raises(ConfigurationError, match=told):
        load(prod)


ROLES = {
    "aws": (["arn:aws:iam::123456789012:role/a/b/app", "arn:aws-us-gov:iam::123456789012:role/x"], ["role/x", "x y"]),
    "gcp": (
        ["app-12@shop-prod.iam.gserviceaccount.com"],
        ["app-12@example.com", "app@shop.iam.gserviceaccount.com"],
    ),
    "azure": (["11111111-2222-3333-4444-555555555555"], ["app", "11111111-2222-3333-4444-55555555555"]),
    "vault": (["app_release.1"], ["-app", "a b"]),
    "kubernetes": (["deployers", "team:shop"], ["system:masters", "Deployers", "a-"]),
    "oidc": (["release", "urn:x:y"], ["a b", 'a"b', "a\\b"]),
}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.roles])
def test_roles_have_the_form_of_their_kind(load, prod, kind):
    right, wrong = ROLES[kind]
    prod["targets"] = {"there": {"kind": kind, "audience": "a", "session_seconds": 0 if kind == "kubernetes" else 900}}
    prod["grants"][0] |= {"target": "there", "roles": list(dict.fromkeys((*right, KINDS[kind].roles.example)))}
    for key in ("session_tags", "transitive"):
        del prod["grants"][0][key]
    assert load(prod).documents[0].grants[0].roles[: len(right)] == tuple(right)
    for role in wrong:
        prod["grants"][0]["roles"] = [role]
        with pytest.raises(ConfigurationError, match=f"no role of {kind}"):
            load(prod)


@pytest.mark.parametrize("key", ["issuer", "protected", "stricter_than", "shared_roles"])
def test_a_guard_without_a_value_is_not_simply_off(load, prod, key):
    with pytest.raises(ConfigurationError, match=key):
        load(prod | {key: None})


def test_kinds_without_roles_take_none(load, prod):
    prod["targets"]["aws-prod"] = {"kind": "step-ca", "audience": "ca"}
    for key in ("session_tags", "transitive"):
        del prod["grants"][0][key]
    with pytest.raises(ConfigurationError, match="knows no roles"):
        load(prod)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is not valid YAML at line"),
        ("trust_map: 1\ntrust_map: 1\n", "the key trust_map is given twice"),
        ("trust_map: 1\n---\ntrust_map: 1\n", "is not valid YAML"),
        ("a: !!python/object:os.system {}\n", "is not valid YAML"),
        ("- 1\n", "must be a mapping, not a list"),
        ("", "must be a mapping, not empty"),
        ("[" * 5000, "is nested too deeply"),
        ("a: &a [1]\nb: &b [*a, *a]\n", "unknown key 'a'"),
        (f"trust_map: {'9' * 5000}\n", "holds a number or a date out of range at line 1, column 12"),
        (f"trust_map: 1\nenvironment: 0x{'f' * 5000}\n", "holds a number or a date out of range at line 2, column 14"),
        (f"trust_map: 1{':1' * 5000}\n", "holds a number or a date out of range at line 1"),
        ("trust_map: 2026-13-01\n", "holds a number or a date out of range at line 1, column 12"),
    ],
    ids=range(12),
)
def test_what_is_no_document_is_refused(load, text, told):
    with pytest.raises(ConfigurationError, match=told):
        load(text)


def test_nothing_is_merged_or_repeated_without_bound(load, prod, monkeypatch):
    lines = ["a0: &a0 {x: 1}"] + [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 40)]
    with pytest.raises(ConfigurationError, match="is not valid YAML at line 2") as caught:
        load("\n".join(lines))
    assert "without merge keys" in caught.value.fix
    monkeypatch.setattr(reading, "MAX_WRITTEN_OUT_BYTES", 10_000)
    values = {"one_of": [f"{number:0100}" for number in range(10)]}
    for claim in "abcdefghijk":
        prod["grants"][0]["when"][claim] = values
    text = yaml.safe_dump(prod)
    assert len(text) < 5000
    with pytest.raises(ConfigurationError, match="repeats too much by aliases"):
        load(text)


def test_files_are_bounded_and_readable(tmp_path):
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigurationError, match="too large"):
        TrustMap.load([big])
    big.write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(ConfigurationError, match="not UTF-8"):
        TrustMap.load([big])
    with pytest.raises(ConfigurationError, match="No such file"):
        TrustMap.load([tmp_path / "none.yaml"])
    os.mkfifo(tmp_path / "pipe.yaml")
    with pytest.raises(ConfigurationError, match="is no file"):
        TrustMap.load([tmp_path / "pipe.yaml"])
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    with pytest.raises(ConfigurationError, match="circle cannot be read"):
        TrustMap.load([tmp_path / "circle"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"empty holds no \.yaml or \.yml file"):
        TrustMap.load([tmp_path / "empty"])
    for paths in ([], [big] * (MAX_DOCUMENTS + 1)):
        with pytest.raises(ConfigurationError, match=f"has {len(paths)} documents"):
            TrustMap.load(paths)


def test_a_folder_stands_for_its_documents(tmp_path, prod):
    (tmp_path / "prod.yaml").write_text(yaml.safe_dump(prod))
    (tmp_path / "staging.yml").write_text(yaml.safe_dump({**prod, "environment": "staging", "grants": []}))
    (tmp_path / ".hidden.yaml").write_text("broken: [")
    (tmp_path / "README.md").write_text("words")
    assert [one.environment for one in TrustMap.load([tmp_path]).documents] == ["prod", "staging"]


def test_the_digest_is_of_what_a_document_says(load, prod):
    first = load(prod)
    reordered = dict(reversed(prod.items()))
    assert load("# a comment\n" + yaml.safe_dump(reordered)).digest == first.digest
    prod["grants"][0]["max_ttl_seconds"] = 299
    assert load(prod).digest != first.digest
    assert first.digest.startswith("sha256:")


def test_the_examples_are_a_map():
    trust_map = TrustMap.load([EXAMPLES])
    assert [one.environment for one in trust_map.documents] == ["", "prod", "staging"]
    assert trust_map.unscoped == ()


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8) | st.integers(), inner, max_size=3),
    max_leaves=8,
)
PLACES = sorted({path for path, *_ in WRONG})


@given(st.sampled_from(PLACES), junk)
def test_whatever_stands_anywhere_it_is_read_or_refused_by_one_error(path, value):
    import copy

    content = change(copy.deepcopy(PROD), path, value)
    try:
        read = document(content, Place("prod.yaml"))
    except ConfigurationError as error:
        told = error
    else:
        assert read.environment == content["environment"]
        return
    assert told.reason == "trust_map_invalid"
    assert len(str(told)) < 1000
