"""The approvers' file: who may sign what, and that one person is one person."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestrator.errors import ConfigurationError
from orchestrator.evidence.approvals.people import People, read_people
from orchestrator.testing.approvals import IDP, person, private_pem, public, public_pem

FILE = {
    "version": 1,
    "people": {
        "alice": {
            "keys": [public_pem("alice")],
            "key_files": ["keys/second.pub"],
            "identities": [{"issuer": IDP, "subject": "alice@acme"}],
            "facts": {"actor_id": ["900"]},
            "may": [{"kinds": ["security"], "environments": ["prod"]}, {"kinds": ["review"], "environments": ["*"]}],
        },
        "carol": {},
    },
}


def written(folder: Path, content: object = FILE) -> Path:
    (folder / "keys").mkdir(exist_ok=True)
    (folder / "keys" / "second.pub").write_text(public_pem("bob"))
    path = folder / "approvers.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def changed(**alice: object) -> dict[str, object]:
    return {"version": 1, "people": {"alice": alice}}


def test_a_file_is_read(tmp_path):
    people = read_people(written(tmp_path))
    alice = people.by_name["alice"]
    assert set(alice.keys) == {*public("alice"), *public("bob")}
    assert people.of_identity(IDP, "alice@acme") is alice is people.of_key(next(iter(public("bob"))))
    assert people.of_identity("https://other.example", "alice@acme") is None
    assert alice.may_sign("security", "prod")
    assert not alice.may_sign("security", "staging")
    assert alice.may_sign("review", "staging")
    assert not alice.may_sign("break_glass", "prod")
    assert alice.subjects() == ["900", "alice", "alice@acme"]
    assert not people.by_name["carol"].may_sign("security", "prod")


def test_the_digest_is_of_the_file_and_of_the_keys_it_names(tmp_path):
    before = read_people(written(tmp_path)).digest
    assert before == read_people(written(tmp_path)).digest
    path = written(tmp_path)
    (tmp_path / "keys" / "second.pub").write_text(public_pem("dave"))
    assert read_people(path).digest != before


@pytest.mark.parametrize(
    ("content", "word"),
    [
        ("version: 1\npeople: {a: {}, a: {}}", "given twice"),
        ("version: 1\npeople: [", "YAML"),
        ("[]", "object"),
        ({"version": 2, "people": {}}, "version"),
        ({"version": 1}, "people"),
        ({"version": 1, "people": {"Alice": {}}}, "people"),
        (changed(key=[]), "key"),
        (changed(keys=["no key"]), "people.alice.keys.0"),
        (changed(keys=[private_pem("alice").decode()]), "people.alice.keys.0"),
        (changed(key_files=["none.pub"]), "none.pub"),
        (changed(may=[{"kinds": [], "environments": ["prod"]}]), "kinds"),
        (changed(may=[{"kinds": ["security"]}]), "environments"),
        (changed(identities=[{"issuer": "", "subject": "x"}]), "issuer"),
        (changed(facts={"actor_id": "900"}), "facts"),
    ],
)
def test_a_file_that_is_not_fit_names_the_place(tmp_path, content, word):
    with pytest.raises(ConfigurationError, match=word) as error:
        read_people(written(tmp_path, content))
    assert error.value.reason == "approvers_invalid"
    assert error.value.fix
    assert "PRIVATE" not in str(error.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ConfigurationError, match="there is no file"):
        read_people(tmp_path / "none.yaml")


def test_two_people_do_not_share_a_key():
    """One person with two names would be two approvers."""
    with pytest.raises(ConfigurationError, match="may not count as two"):
        People([person("alice"), person("dave", keys=("alice",))])


def test_two_people_do_not_share_an_identity():
    both = frozenset({(IDP, "somebody")})
    with pytest.raises(ConfigurationError, match="may not count as two"):
        People([person("alice", identities=both), person("dave", identities=both)])
